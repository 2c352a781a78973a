"""Where bytes are kept: folders, buckets, URLs, copies on a node, files that are whole or not there.

Nothing here knows what the bytes mean. A store is written through `tism_scan.storage.folder`, on a disk or
in a bucket; `atomic` writes single files; `copies` and `staging` bring files to this machine.
"""

from tism_scan.storage.places import Place, Url, file_place, store_place

__all__ = ["Place", "Url", "file_place", "store_place"]
