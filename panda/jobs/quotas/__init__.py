"""How much a user, or a group of users, may have queued, running and used.

`rules` says what follows from quotas, pure; `file` reads `quotas.toml`; `table` keeps them; `picture` is what a
process knows of them; `watching` marks the ready jobs of those who have one; `admission` takes job sets in;
`history` is what was used; `standing` tells people how they stand.
"""
