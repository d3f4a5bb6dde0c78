"""The capture worker: a process that reads some of the cameras, apart from the daemon; `crow_daemon.pool` starts it."""
