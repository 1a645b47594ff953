"""The running process and its faces."""

import warnings

# The embedded PostgreSQL's package asks for a runtime folder as it is imported, and does without one.
warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
