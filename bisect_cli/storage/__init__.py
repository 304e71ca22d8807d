"""Campaigns on disk: their folders (`store`), the log (`eventlog`), who holds them (`lease`), and the journals of old
verdicts that people keep (`journal`).
"""
