"""From the spool to the receiver, over one gRPC stream."""
