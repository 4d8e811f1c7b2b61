"""Files and folders that systems put beside a user's."""

# In lower case: of Windows, macOS and network drives.
_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin"})


def is_litter(name: str) -> bool:
    """True of what belongs to no folder of pictures and no set: hidden names, and those of file managers."""
    return name.startswith(".") or name.lower() in _NAMES
