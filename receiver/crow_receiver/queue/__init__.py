"""The two output queues: the port that consumers and the dispatcher see, its embedded adapter, and the dispatcher."""
