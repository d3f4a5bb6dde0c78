"""What the tests of the whole line share."""

USER, PASSWORD = "shop", "canary:p@ss/w%rd"
QUICK_SESSIONS = {
    "CROW_RECEIVER_SESSION__GAP_S": "3",
    "CROW_RECEIVER_BATCH__AGE_S": "2",
    "INTERNAL_GATEWAY_KEY": "k" * 32,
}
