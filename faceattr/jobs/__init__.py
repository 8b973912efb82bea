"""The distributed jobs: the only room that knows Ray."""

import os

# Threads of Tune and Train that outlive a stopped command's session by a moment would otherwise start a new cluster.
# Ray reads this when it is imported.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
