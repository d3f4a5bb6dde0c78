"""`python -m crow_receiver.vision.worker`."""

from crow_receiver.vision.worker.main import main

main()
