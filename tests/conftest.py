# SPDX-License-Identifier: Apache-2.0
"""The suite in the background of a shell, which ignores Ctrl-C there: processes that tests start would as well."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
