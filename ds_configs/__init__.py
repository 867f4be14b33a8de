"""DeepSpeed JSON configurations, one per ZeRO stage."""
