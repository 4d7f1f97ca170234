"""What error codes mean, in a sentence, and what to do about them. Pilot numbers are PanDA's.

Exit codes of payloads: 126 and 127, and 128 and more for a command that a signal ended (128 + its number), are the
shell's (POSIX.1-2017, Shell Command Language, 2.8.2; Bash manual, "Exit Status", also for 2). Signals have the numbers
of Linux on x86 and ARM (signal(7)). Everything else is the payload's own.
"""

import re
from collections.abc import Sequence

#: (meaning, advice)
KNOWN: dict[str, tuple[str, str]] = {
    "pilot:1098": ("The node's disk is full", "Ask the site; a retry goes to another node."),
    "pilot:1099": ("An input could not be copied to the node", "Look at the site's storage; a retry is safe."),
    "pilot:1103": ("An input is not where the catalogue says", "Check the replica; a retry alone will not help."),
    "pilot:1104": ("The work folder outgrew the job's disk", "Ask for more disk_mb, or write less."),
    "pilot:1106": ("The payload wrote too much to its log", "Print less."),
    "pilot:1110": ("The sandbox or the job's description cannot be used", "Look at the submission."),
    "pilot:1137": ("An output could not be copied to the site's storage", "Look at the storage: is it full, is it up? "
                   "The outputs went with the node, so a retry runs the payload again."),
    "pilot:1144": ("The server told the pilot to kill the job", "Somebody asked for it; see the events of the job."),
    "pilot:1150": ("The payload was silent for too long", "Does it wait for something? Look at its log."),
    "pilot:1165": ("The payload did not write an output that it promised", "Look at its log and its output names."),
    "pilot:1171": ("An input's checksum is wrong", "The replica is damaged: tell the storage's people."),
    "pilot:1172": ("An output's checksum is wrong after the copy", "Look at the storage; a retry is safe."),
    "pilot:1199": ("The work folder could not be made", "Look at the node; a retry goes to another one."),
    "pilot:1200": ("The payload died of a signal", "Look at its log."),
    "pilot:1201": ("The batch system ended the pilot", "The slot was too short, or the site drains nodes."),
    "pilot:1212": ("The kernel killed the payload, most likely for memory", "Ask for more memory_mb."),
    "pilot:1213": ("The wall time is used up", "Ask for more walltime_s, or make smaller jobs."),
    "pilot:1235": ("The payload used more memory than it asked for", "Ask for more memory_mb."),
    "pilot:1236": ("The server took the job away", "See the events of the job."),
    "pilot:1246": ("The sandbox could not be downloaded", "Look at the API's health; a retry is safe."),
    "pilot:1305": ("The payload ended with an exit code other than 0", "It is the payload's own: read its log."),
    "pilot:1319": ("A fault of the pilot itself", "Please report it, with pilot.log."),
    "pilot:1328": ("The payload died of a segmentation fault", "It is the payload's own: read its log."),
    "pilot:1333": ("The site's storage is full", "Tell the site; set its queues to brokeroff meanwhile."),
    "pilot:1344": ("The job needs more than the slot has", "Look at the queue's limits."),
    "pilot:1346": ("The command does not exist on the node", "Look at the command and the sandbox."),
    "dispatch:lost_heartbeat": ("The pilot went silent", "Node or network: does one node or one site stand out?"),
    "dispatch:kills_pilots": ("The job ended every pilot that took it", "The payload is poison: look at its last log."),
    "define:no_input": ("An input does not exist", "Look at the submission."),
    "define:parent_timeout": ("The job sets before it did not end in time", "Look at them."),
    "stage_in:deadline": ("Its inputs did not arrive in time", "Look at transfers and at the storages."),
    "stage_out:bad_output": ("An output is not what the pilot reported", "Look at the storage."),
}  # fmt: skip
_READ_LOG = "It is the payload's own: read its log."
#: Signals that end payloads: by number, name, what it most likely means, and what to do.
_SIGNALS: dict[int, tuple[str, str, str]] = {
    1: ("SIGHUP", "its session was closed", "Does the payload start something that hangs up? Read its log."),
    2: ("SIGINT", "somebody, or the site, interrupted it", "A retry is safe; does one node stand out?"),
    3: ("SIGQUIT", "somebody, or the site, made it quit", "A retry is safe; does one node stand out?"),
    4: (
        "SIGILL",
        "the processor does not know an instruction of it",
        "It was built for another processor: require the right one, or build it for an older one.",
    ),
    6: ("SIGABRT", "it gave up by itself: an assertion, or a corrupt heap", _READ_LOG),
    7: (
        "SIGBUS",
        "it reached memory that is not there, often a file that was cut short",
        "Was the disk full, or an input damaged? Read its log.",
    ),
    8: ("SIGFPE", "a division by zero, or another impossible number", _READ_LOG),
    9: (
        "SIGKILL",
        "killed at once, most likely for memory, or at the end of the slot",
        "Ask for more memory_mb; if its memory was small, look at the node and at walltime_s.",
    ),
    11: ("SIGSEGV", "it reached memory that is not its own", _READ_LOG),
    13: ("SIGPIPE", "what read its output was gone", "Look at the pipes in its command."),
    14: ("SIGALRM", "a timer of its own ran out", _READ_LOG),
    15: (
        "SIGTERM",
        "asked to end: by the site, or at the end of the slot",
        "A retry is safe; if it happens again, look at walltime_s and at the site.",
    ),
    24: ("SIGXCPU", "its CPU time is used up", "Ask for more walltime_s or cores, or make smaller jobs."),
    25: ("SIGXFSZ", "a file became larger than may be", "Write smaller files, or ask the site for its limit."),
    31: ("SIGSYS", "it made a system call that the node forbids", "Look at the container, and ask the site."),
}
KNOWN |= {
    "payload:1": ("The payload ended with a general error (exit code 1)", _READ_LOG + " Python ends so after an "
                  "exception that nobody caught."),
    "payload:2": ("The payload ended with exit code 2: by custom, its options or its shell script are wrong",
                  "Look at the command of the job and at the first lines of its log."),
    "payload:124": ("The payload ran into the limit of the command timeout (exit code 124)",
                    "Give timeout more, or find out why it takes so long."),
    "payload:126": ("The command cannot be executed (exit code 126)",
                    "Is it executable, and for this processor? chmod +x, or name its interpreter."),
    "payload:127": ("The command was not found (exit code 127)",
                    "Look at the command, at the sandbox, and at what its set-up puts into PATH."),
    "payload:128": ("The payload ended with exit code 128: its script gave exit a wrong argument, or git failed",
                    _READ_LOG),
    "payload:255": ("The payload ended with exit code 255: by custom -1, or ssh could not connect", _READ_LOG),
} | {
    f"payload:{128 + number}": (f"The payload was ended by {name} (exit code 128 + {number}): {words}", what)
    for number, (name, words, what) in _SIGNALS.items()
}  # fmt: skip
COMPONENTS = {
    "payload": "The payload ended with this exit code",
    "pilot": "The pilot reported this PanDA error number",
    "define": "The submission cannot be carried out",
    "broker": "No queue was found",
    "stage_in": "Inputs did not arrive",
    "dispatch": "The pilot or its node was lost",
    "stage_out": "Outputs did not get to their place",
    "archive": "The end could not be written down",
}
_VARIABLE = re.compile(r"/[^\s'\",:]+|0x[0-9a-f]+|\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\b[0-9a-f]{16,}\b|\d+", re.IGNORECASE)


def meaning(code: str | None) -> str:
    """A sentence, or what its component stands for."""
    if not code or code == "none":
        return "No code was given"
    return KNOWN[code][0] if code in KNOWN else COMPONENTS.get(code.partition(":")[0], "No meaning is written down")


def advice(code: str) -> str:
    """What to do; empty when nothing is written down."""
    if code in KNOWN:
        return KNOWN[code][1]
    return _READ_LOG if code.startswith("payload:") else ""


def clusters(messages: Sequence[str | None], n: int = 8) -> list[tuple[str, int]]:
    """Messages that differ in numbers and paths alone, as one: (an example, how many), the commonest first."""
    found: dict[str, tuple[str, int]] = {}
    for message in messages:
        if message:
            kind = _VARIABLE.sub("#", message[:500])
            example, count = found.get(kind, (message, 0))
            found[kind] = (example, count + 1)
    return sorted(found.values(), key=lambda item: -item[1])[:n]
