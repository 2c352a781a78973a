"""A folder that is killed in the middle of its work."""

from tism_scan.storage.folder import LocalFolder


class CrashingFolder(LocalFolder):
    """A folder whose process is killed instead of publishing once too often."""

    puts_left = 0

    def put(self, key, content):
        self.count()
        super().put(key, content)

    def put_new(self, key, content):
        self.count()
        return super().put_new(key, content)

    def count(self):
        if CrashingFolder.puts_left == 0:
            raise KeyboardInterrupt("killed")
        CrashingFolder.puts_left -= 1
