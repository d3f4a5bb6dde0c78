"""Where frames come in: the gRPC stream of the daemons, and the one intake that REST uses too."""
