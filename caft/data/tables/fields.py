"""Names of an image's captions, for those who read no table."""

# In the order of DreamLIP's columns: IB InstructBLIP, SV ShareGPT4V, LLA LLaVA-1.5.
FIELDS = ("raw", "short_ib", "long_ib", "short_sv", "long_sv", "short_lla", "long_lla")
LONG_FIELDS = tuple(field for field in FIELDS if field.startswith("long_"))
