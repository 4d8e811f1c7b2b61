"""Files and folders that systems put beside a user's: for their own use, or to keep what was deleted or changed."""

# In lower case. Names that begin with a dot (.Trash-1000, .snapshot, .zfs, .@__thumb, .DS_Store) need no line here.
_NAMES = frozenset(
    {
        # of Windows: pictures of pictures, how a folder is shown, what was deleted, what a check of the disk found
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "autorun.inf"),
        *("$recycle.bin", "recycler", "recycled", "system volume information", "found.000"),
        # of macOS, also on the disks of others
        *("icon\r", "__macosx", "network trash folder", "temporary items", "thevolumesettingsfolder"),
        # of Linux's file systems
        "lost+found",
        # of network storages by Synology, QNAP and NetApp: thumbnails, deleted files, states of days before
        *("@eadir", "@tmp", "@sharebin", "@sharesnap", "#recycle", "#snapshot"),
        *("@recycle", "@recently-snapshot", "@__thumb", "~snapshot"),
    }
)


def is_litter(name: str) -> bool:
    """True of what belongs to no folder of pictures and no set: hidden names, and those of systems and storages."""
    return name.startswith(".") or name.lower() in _NAMES
