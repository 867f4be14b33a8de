"""Minimal pairs: does a model prefer a real sentence to the same one with a fault?"""
