"""Tests of what machines keep on their disks."""
