"""llama-cpp-python's own chat handler as a party: one frame at a time."""

import sys

from llama_cpp import Llama, LlamaGrammar
from llama_cpp.llama_chat_format import MTMDChatHandler
from party import serve
from workload import GBNF, MOST_TOKENS, Frame, messages


def main() -> None:
    """Arguments: both files, threads, context, layers on the GPU."""
    model_path, mmproj, threads, context, gpu_layers = sys.argv[1:]
    chat = MTMDChatHandler(mmproj, verbose=False, use_gpu=gpu_layers != "0")
    model = Llama(
        model_path,
        chat_handler=chat,
        n_ctx=int(context),
        n_threads=int(threads),
        n_threads_batch=int(threads),
        n_gpu_layers=int(gpu_layers),
        verbose=False,
    )
    grammar = LlamaGrammar.from_string(GBNF, verbose=False)

    def answer(frame: Frame) -> str:
        said = model.create_chat_completion(messages(frame), grammar=grammar, temperature=0.0, max_tokens=MOST_TOKENS)
        return str(said["choices"][0]["message"]["content"])

    serve(lambda frames: ([answer(frame) for frame in frames], {}), lambda: 0)


if __name__ == "__main__":
    main()
