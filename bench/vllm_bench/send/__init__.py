"""The sending process. Only this folder uses asyncio and sockets."""
