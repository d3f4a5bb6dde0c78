"""A camera that answers to ONVIF discovery and says where its streams are."""
