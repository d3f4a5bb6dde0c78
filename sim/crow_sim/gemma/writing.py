"""What both files of a model share."""

from gguf import GGUFWriter

RMS_EPSILON = 1e-6


def write(writer: GGUFWriter) -> None:
    """Writes the file out."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
