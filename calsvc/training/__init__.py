"""The training side: runs a handout's train.py, exports what it trained, proves the export, publishes the bundle.

Needs the extra `train`; the service never imports it but for asking whether a bundle is current.
"""
