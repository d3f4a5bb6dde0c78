"""The bodies of the two queues' messages. Pure functions: the same frames give the same message, byte for byte."""
