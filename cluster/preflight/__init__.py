"""The check of an allocation's nodes before work begins, in less than a minute."""
