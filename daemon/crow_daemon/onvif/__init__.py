"""Finding cameras in the network and asking them where their streams are (ONVIF)."""
