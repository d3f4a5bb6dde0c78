"""`python -m crow_daemon.worker`: a capture worker, started by the daemon."""

from crow_daemon.worker.main import main

if __name__ == "__main__":
    main()
