"""The native HTTP face, /v1: Falcon resources over the services below."""
