# SPDX-License-Identifier: MIT
"""gdb_coir.py - coir's fibers in gdb, in a live process or a core file.

usage: gdb -x tools/gdb_coir.py PROGRAM [PID|CORE]

  info fibers [all]   a table of the fibers; all: loops that lie idle, too
  fiber N             shows fiber N: its frames and variables are at hand until the program runs
  fiber N bt          its backtrace; what was selected stays so
  fiber               back to the thread's own frames

Where several runtimes live in the process, the fibers of the others are 1.N, 2.N, ...

Nothing is written or called in the process: a parked fiber is shown by an unwinder that claims the
caller of a thread's newest frame to be what arch_switch has saved (of another thread's, if that is in
main() itself, where gdb goes no further). Therefore core files will do. Of
a live process let the kernel write them: gdb's generate-core-file stops at the guards of stacks.

A process that is looked at may be damaged: what cannot be read is "?", and no pointer is followed out of a
fiber's stack, nor twice to the same place.

Names and numbers come from DWARF, but one: the state is the low byte of its word (fiber_state_of).
"""
import re

import gdb
import gdb.unwinder

STATE_MASK = 0xff
GAP = "  "
WORDS = (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_PTR)
REAL_NAMES = {"fp": ("rbp", "x29"), "pc": ("rip", "pc"), "sp": ("rsp", "sp")}


def struct(name):
    try:
        return gdb.lookup_type("struct " + name)
    except gdb.error as error:
        raise gdb.GdbError("no debug information of coir here: %s" % error)


def offset_of(struct_type, field):
    return struct_type[field].bitpos // 8


def states():
    """Of enum fiber_state: number to name, as in "parked"."""
    fields = gdb.lookup_type("enum fiber_state").fields()
    return {f.enumval: f.name.split("_", 1)[1].lower() for f in fields}


def symbol(pointer):
    """Name of what is at an address; the address if there is none."""
    named = re.search("<(.+)>", str(pointer))
    return named[1] if named else hex(int(pointer))


def readable(read, *args):
    """What read gives; "?" where memory is damaged, or not in the core file."""
    try:
        return read(*args)
    except gdb.error:
        return "?"


class Selection:
    """Keeps what is selected, thread, fiber and frame: with Selection(): ..."""

    def __enter__(self):
        self.fiber = unwinder.shown
        self.thread, self.frame = gdb.selected_thread(), gdb.selected_frame()

    def __exit__(self, *_):
        self.thread.switch()
        unwinder.show(self.fiber)
        if self.frame.is_valid():
            self.frame.select()


# --------------------------------------------------------------------------------- what there is

class Worker:
    """A thread that runs fibers; must be the selected one when this is made."""

    def __init__(self, worker):
        self.thread = gdb.selected_thread()
        self.value = worker.dereference()
        self.index = int(self.value["index"])
        self.runtime = int(self.value["runtime"])
        self.current = int(self.value["current"])
        self.sp = int(gdb.newest_frame().read_register("sp"))


def find_workers():
    """All workers of all runtimes, by their threads."""
    found, error = [], "none of its threads is a worker"
    if not gdb.selected_thread():
        raise gdb.GdbError("there is no process")
    struct("fiber")
    with Selection():
        for thread in sorted(gdb.selected_inferior().threads(), key=lambda t: t.num):
            thread.switch()
            try:
                worker = gdb.parse_and_eval("worker_tls")
                if worker:
                    found.append(Worker(worker))
            except gdb.error as reason:     # a thread without thread-locals, or no libthread_db
                error = reason
    if not found:
        raise gdb.GdbError("no coir runtime in this process: %s" % error)
    return found


class Fiber:
    def __init__(self, address, runtime_name, workers):
        self.address = address
        self.value = gdb.Value(address).cast(struct("fiber").pointer()).dereference()
        self.index = int(self.value["stack"]["index"])
        self.low = int(self.value["stack"]["low"])
        self.id = runtime_name + str(self.index)
        self.state = states().get(int(self.value["state"]) & STATE_MASK, "?")
        self.worker = self.find_worker(workers)

    def find_worker(self, workers):
        """Who runs it: whose stack pointer is in its stack, or (on a signal stack) who says so."""
        for worker in workers:
            if self.low <= worker.sp < self.address:
                return worker
        if self.state == "running":
            for worker in workers:
                if worker.current == self.address:
                    return worker
        return None

    def jobs(self):
        """The jobs on its stack, innermost first, with the boundaries of coir_try in between; as in peek.c, each
        lies above the one before."""
        job, above = self.value["job"], self.low
        while job:
            if not above <= int(job) <= self.address - job.type.target().sizeof:
                raise gdb.MemoryError("no job at %s" % job)
            yield job
            job, above = job["outer"], int(job) + 1

    def depth(self):
        return str(sum(1 for job in self.jobs() if not job["is_try"]))

    def job(self):
        """The innermost job: its own name, if it has one, and its function."""
        name = None
        for job in self.jobs():
            if not name and job["name"]:
                name = readable(job["name"].string, "utf-8", "replace")
            if not job["is_try"]:
                function = symbol(job["fn"])
                return "%s (%s)" % (name, function) if name else function
        return "-"

    def waits_for(self):
        what, on = self.value["waits_for"], self.value["waits_on"]
        if self.worker or not what:
            return ""
        return readable(what.string, "utf-8", "replace") + (" " + symbol(on) if on else "")

    def row(self):
        worker = [str(self.worker.index), str(self.worker.thread.num)] if self.worker else ["-", "-"]
        return [self.id, self.state, *worker, *map(readable, (self.depth, self.job, self.waits_for))]


class Runtime:
    def __init__(self, address, name, workers):
        self.name = name
        self.workers = workers
        self.value = gdb.Value(address).cast(struct("coir_runtime").pointer()).dereference()
        self.stacks = self.value["stacks"]
        self.created = int(self.stacks["created"])

    def fiber(self, i):
        """The fiber of stack i; None if its memory was given back."""
        address = self.header(i)
        return address and Fiber(address, self.name, self.workers)

    def header(self, i):
        """Where the header of stack i lies: near its top, and it names its stack."""
        guard, usable = int(self.stacks["guard"]), int(self.stacks["usable"])
        per_chunk = int(self.stacks["per_chunk"])
        low = int(self.stacks["chunk"][i // per_chunk]) + i % per_chunk * (guard + usable) + guard
        window = int(self.stacks["header"])
        kind = struct("stack")
        begin, end = offset_of(kind, "low"), offset_of(kind, "index")
        pattern = low.to_bytes(end - begin, "little") + i.to_bytes(4, "little")
        while True:
            window = min(window * 2, usable)
            found = gdb.selected_inferior().search_memory(low + usable - window, window, pattern)
            if found is not None or window == usable:
                return found and found - begin

    def fibers(self):
        return filter(None, map(self.fiber, range(self.created)))


def find_runtimes():
    workers = find_workers()
    addresses = sorted({w.runtime for w in workers})
    return [Runtime(address, "%d." % i if i else "", [w for w in workers if w.runtime == address])
            for i, address in enumerate(addresses)]


def find_fiber(name):
    match = re.fullmatch(r"(?:(\d+)\.)?(\d+)", name)
    if not match:
        raise gdb.GdbError("not a fiber: %s; see `info fibers'" % name)
    runtimes = find_runtimes()
    runtime, index = int(match[1] or 0), int(match[2])
    if runtime < len(runtimes) and index < runtimes[runtime].created:
        fiber = runtimes[runtime].fiber(index)
        if fiber:
            return fiber
    raise gdb.GdbError("there is no fiber %s; see `info fibers'" % name)


# ------------------------------------------------------------------------------ a parked fiber

class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = gdb.Value(sp), gdb.Value(pc)


class Parked:
    """A parked fiber and the frame of a thread whose caller it shall seem to be."""

    def __init__(self, fiber):
        sp = int(fiber.value["sp"])
        if not sp:
            raise gdb.GdbError("fiber %s has not run yet" % fiber.id)
        if not fiber.low <= sp < fiber.address:
            raise gdb.GdbError("fiber %s was not saved in its stack but at 0x%x" % (fiber.id, sp))
        frame = gdb.newest_frame()
        saved = fiber.value["sp"].cast(struct("arch_frame").pointer()).dereference()
        self.below = self.place(frame)
        self.id = FrameId(int(saved.address), int(saved["pc"]))
        self.registers = dict(self.general_registers(frame, saved))

    @staticmethod
    def place(frame):
        return [int(frame.read_register(r)) for r in ("sp", "pc")]

    @staticmethod
    def general_registers(frame, saved):
        """What a struct arch_frame says of the registers that unwinding needs, by gdb's names."""
        values = {field.name: saved[field.name] for field in saved.type.fields()}
        values["sp"] = (saved.address + 1).cast(gdb.lookup_type("void").pointer())
        for field, value in values.items():
            for name in REAL_NAMES.get(field, (field,)):
                if frame.architecture().registers().find(name):
                    kind = frame.read_register(name).type
                    if kind.code in WORDS and kind.sizeof == value.type.sizeof:
                        yield name, value

    def newest_frame(self):
        """None if gdb does not unwind from the thread's frame: it ends at main(), for one."""
        frame = gdb.newest_frame()
        while frame and int(frame.pc()) != int(self.id.pc):
            frame = frame.older()
        return frame


class ParkedUnwinder(gdb.unwinder.Unwinder):
    """Makes what is shown, a Parked or None, the caller of the newest frame of its thread."""

    shown = None

    def show(self, parked):
        if parked is not self.shown:
            self.shown = parked
            gdb.invalidate_cached_frames()

    def __call__(self, frame):
        if not self.shown or Parked.place(frame) != self.shown.below:
            return None
        info = frame.create_unwind_info(self.shown.id)
        for name, value in self.shown.registers.items():
            info.add_saved_register(name, value)
        return info


# ------------------------------------------------------------------------------------ commands

def show(fiber):
    """Selects the newest frame of a fiber, if need be in another thread; returns it."""
    if fiber.worker:
        fiber.worker.thread.switch()
        unwinder.show(None)
        return gdb.newest_frame()
    for thread in [gdb.selected_thread(), *gdb.selected_inferior().threads()]:
        thread.switch()
        parked = Parked(fiber)
        unwinder.show(parked)
        frame = parked.newest_frame()
        if frame:
            frame.select()
            return frame
    raise gdb.GdbError("gdb cannot unwind from any thread's frame")


def backtrace(first):
    """gdb's backtrace from the given frame on, counted from there."""
    lines = gdb.execute("backtrace", to_string=True).splitlines()
    skip = first.level()
    keep = False
    for line in lines:
        level = re.match(r"#(\d+) ", line)
        if level and int(level[1]) >= skip:
            keep = True
            line = ("#%d" % (int(level[1]) - skip)).ljust(4) + line[4:]
        if keep:
            print(line)


class InfoFibers(gdb.Command):
    """List coir's fibers: info fibers [all]
all lists loops that lie idle, too."""

    TITLE = ["id", "state", "worker", "thread", "jobs", "job", "waits for"]

    def __init__(self):
        super().__init__("info fibers", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        if argument not in ("", "all"):
            raise gdb.GdbError("usage: info fibers [all]")
        rows = [fiber.row() for runtime in find_runtimes() for fiber in runtime.fibers()
                if argument or fiber.state != "idle"]
        rows.insert(0, self.TITLE)
        widths = [max(map(len, column)) for column in zip(*rows)]
        for row in rows:
            print(GAP.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


class FiberCommand(gdb.Command):
    """Show a fiber of coir: fiber N [bt]
fiber N selects fiber N until the program runs; fiber N bt prints its backtrace.
Without argument: back to the thread's own frames."""

    def __init__(self):
        super().__init__("fiber", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        words = argument.split()
        if not words:
            unwinder.show(None)
            gdb.newest_frame().select()
        elif len(words) == 1:
            show(find_fiber(words[0]))
            gdb.execute("frame")
        elif len(words) == 2 and words[1] in ("bt", "backtrace"):
            fiber = find_fiber(words[0])
            with Selection():
                backtrace(show(fiber))
        else:
            raise gdb.GdbError("usage: fiber N [bt]")


unwinder = ParkedUnwinder("coir-parked-fiber")
gdb.unwinder.register_unwinder(None, unwinder, replace=True)
gdb.events.cont.connect(lambda event: unwinder.show(None))
InfoFibers()
FiberCommand()
