"""The README's programs are those of the examples, and do what they say; so do the players."""

import contextlib
import glob
import io
import os
import re
import subprocess
import sys
import unittest

import play
from support import CONVERSATIONS, HERE, PACKAGE, PATIENCE, Test


class Programs(Test):
    def run_python(self, *arguments):
        environment = {**os.environ, "PYTHONPATH": PACKAGE, "PYTHONIOENCODING": "utf-8"}
        return subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=3 * PATIENCE
        )

    def program(self, name):
        with open(os.path.join(PACKAGE, "README.md"), encoding="utf-8") as file:
            return re.search(f"```python {name}\n(.*?)```", file.read(), re.S).group(1)

    def test_the_first_is_the_example(self):
        with open(os.path.join(PACKAGE, "examples", "store.py"), encoding="utf-8") as file:
            self.assertEqual(file.read(), self.program("store"))

    def test_they_run(self):
        server = self.serve(self.fresh())
        for name, expected in [
            ("store", "the value is hello, this is server!\nchanged to tea\npart 1\npart 2\npart 3\nrefused with -1\n"),
            ("more", "PING\n100\nTimedOut -7 True\n"),
            ("asyncio", "the value is tea\nchanged to coffee\npart 1\npart 2\npart 3\n"),
        ]:
            ran = self.run_python("-W", "error", "-c", self.program(name), server.endpoint)
            self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, expected, ""))

    def test_conversations_of_calls(self):
        server = self.serve(self.fresh())
        files = sorted(glob.glob(os.path.join(CONVERSATIONS, "calls", "*.calls")))
        self.assertGreaterEqual(len(files), 8)
        names = [os.path.splitext(os.path.basename(file))[0] for file in files]
        for options in [[], ["--asyncio"]]:
            ran = self.run_python(os.path.join(HERE, "play.py"), *options, server.endpoint, *files)
            self.assertEqual(ran.stdout, "".join(f"{name}: ok\n" for name in names), ran.stderr)
            self.assertEqual(ran.returncode, 0)

    def test_a_player_can_fail(self):
        server = self.serve(self.fresh())
        for line in [
            'call 4 "a" -> 0 "b"', 'call 99 "" -> -2', 'parts 7 "2" -> "1" "3" then 0 ""', 'parts 7 "1" -> "1" then 1',
            "subscribe 9 -> 0", 'nonsense 4 "a"', 'wait nobody -> 0',
        ]:
            path = self.path("wrong.calls")
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"# wrong\n\n{line}\n")
            for options in [[], ["--asyncio"]]:
                said = io.StringIO()
                with contextlib.redirect_stdout(said):
                    status = play.main([*options, server.endpoint, path])
                self.assertEqual(status, 1, line)
                self.assertRegex(said.getvalue(), "^wrong:3: ", line)


if __name__ == "__main__":
    unittest.main()
