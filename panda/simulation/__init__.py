"""Fleets that are played: pilots without payloads, and the load that they eat, over real HTTP.

It speaks HTTP to a server and knows nothing of its inside, so that what is measured with it is what pilots meet.
"""
