"""The `panda` command: calls on the client, and what people read of them."""
