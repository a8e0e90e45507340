"""Engines that decode: each is one module that implements `Engine`."""
