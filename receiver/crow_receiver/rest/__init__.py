"""REST beside gRPC: frames and sessions for the gateway, queues for consumers, health for operators."""
