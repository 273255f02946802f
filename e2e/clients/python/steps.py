"""One line for each step of a program: `step: outcome`."""

def versions(**of):
    print("# versions: " + ", ".join(f"{name.replace('_', ' ')} {version}" for name, version in of.items()), flush=True)


def shown(value):
    """As text that is the same in every run: dictionaries sorted, buffers as hexadecimal, lines escaped."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "0x" + bytes(value).hex()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(value[key])}" for key in sorted(value, key=str)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace("\n", "\\n")
    return str(value)


def state(error):
    """The SQLSTATE of a driver's error, whatever wraps it; None if it has none."""
    while error is not None:
        for name in ("sqlstate", "pgcode"):
            if getattr(error, name, None):
                return getattr(error, name)
        error = getattr(error, "orig", None) or error.__cause__
    return None


def report(name, outcome):
    print(f"{name}: {shown(outcome)}", flush=True)


def failed(name, error):
    report(name, f"FAILED {type(error).__name__} {state(error)} {error}")


def step(name, call):
    """Runs a step; what it returns is its outcome."""
    try:
        outcome = call()
    except Exception as error:
        return failed(name, error)
    report(name, outcome)


def expect(name, call):
    """A step that the server refuses: its outcome is the SQLSTATE."""
    try:
        call()
    except Exception as error:
        return report(name, state(error)) if state(error) else failed(name, error)
    report(name, "FAILED no error")


def stepped(function):
    """Makes a function a step named after it."""
    step(function.__name__.replace("_", " "), function)
    return function
