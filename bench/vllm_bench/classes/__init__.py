"""Classes of users held against each other: is the server fair to them?"""
