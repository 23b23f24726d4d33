"""Run by gdb: stops at sampled blocks and compares the stack that was captured with the debugger's own.

Prints how many were compared, and each that differs. Wanted: the variable `samples`, how many.
"""
import gdb

gdb.execute("set pagination off")
gdb.execute("set confirm off")
gdb.execute("set breakpoint pending on")
gdb.execute("set print thread-events off")
gdb.execute("set backtrace limit 600")
gdb.execute("break sample_taken")
gdb.execute("run")


def physical():
    """Return addresses of the frames that are on the stack, outside of the allocator, leaf first."""
    frame, found, inside = gdb.newest_frame().older(), [], True
    while frame is not None and frame.is_valid():
        # Tail calls leave no frame: the debugger infers them.
        if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
            library = gdb.solib_name(frame.pc()) or ""
            inside = inside and "heapsift" in library
            if not inside:
                found.append(frame.pc())
        frame = frame.older()
    return found


compared = different = 0
wanted = int(gdb.convenience_variable("samples"))
while compared < wanted and gdb.selected_inferior().pid != 0:
    depth = int(gdb.parse_and_eval("(unsigned)$rcx"))
    stack = int(gdb.parse_and_eval("(unsigned long)$rdx"))
    memory = gdb.selected_inferior().read_memory(stack, depth * 8).tobytes()
    ours = [int.from_bytes(memory[i * 8 : i * 8 + 8], "little") for i in range(depth)]
    theirs = physical()
    compared += 1
    # The debugger may stop at main; what it has must be the same.
    same = len(theirs) >= 2 and ours[: len(theirs)] == theirs
    if not same:
        different += 1
        print("DIFFERENT", [hex(a) for a in ours], [hex(a) for a in theirs])
    gdb.execute("continue")
print(f"COMPARED {compared} DIFFERENT {different}")
if gdb.selected_inferior().pid != 0:
    gdb.execute("kill")
