"""The sending processes of one run: started, listened to, ended; and what their replies say."""
