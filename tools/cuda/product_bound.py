"""What a product kernel (src/cuda/kernel/product_kernel.h) can reach at most on an H100, on paper: from its PTX and what ptxas reports.

Decode kernels: a share of the bandwidth of a copy. Kernels of many rows: a share of what mma reaches with bf16. The least of
- bytes on their way against latency times bandwidth (decode): resident blocks, each with the chunks that its warps copy ahead;
- instructions: those of PTX that become some (not mov, cvta), in the block with most mma and in the rest of the loop that copies;
- the tensor cores' own time, with mma.sync;
- bytes from the L2 cache: weights and activations, where blocks of a multiprocessor read the same activations (decode) but once."""
import re

# NVIDIA, "H100 Tensor Core GPU Architecture" (SXM5): multiprocessors, clock, memory, registers. mma.sync: 0.63 of the peak (Luo et al.,
# "Benchmarking and Dissecting the NVIDIA Hopper GPU Architecture"). Copy: 92 % of 3.35 TB/s. Latency under load, bytes from L2 (5.5 TB/s at
# 114 multiprocessors) and how often a scheduler finds an instruction are assumptions.
MULTIPROCESSORS, HERTZ = 132, 1.755e9
COPY_BYTES_PER_CYCLE = 0.92 * 3.35e12 / MULTIPROCESSORS / HERTZ
LATENCY_CYCLES = 0.8e-6 * HERTZ
L2_BYTES_PER_CYCLE = 27.5
INSTRUCTIONS_PER_CYCLE = 4 * 0.85
REGISTERS, SHARED_BYTES, SHARED_BYTES_OF_BLOCK, THREADS_MAX = 65536, 228 * 1024, 1024, 2048
BF16_MACS_PER_CYCLE = 2048 * 0.63
AIMS = {"decode": 80, "prefill": 50}  # per cent: CUDA kernels of 1 to 16 rows, and of many

NOTE = re.compile(r"\.reg \.b32 note_(\w+);")
SIXTEEN_BYTES = re.compile(r"cp\.async\.cg\.shared\.global \[[^]]*\], \[[^]]*\], 16|ld\.global[.\w:]*\.v4\.[usf]32")
NO_INSTRUCTION = ("//", ".", "{", "}", "mov", "cvta")


def read_kernels(ptx):
    """{mangled name: its text}"""
    return {name: text for name, text in re.findall(r"\.entry (\w+)(\(.*?\n\})", ptx, re.S)}


def read_note(body):
    """What the kernel says of itself, or None."""
    found = NOTE.search(body)
    if not found:
        return None
    words = found.group(1).split("_")
    return dict(zip(words[::2], map(int, words[1::2])))


def basic_blocks(lines):
    """[(first line, last line)]: no label inside, a branch only at the end."""
    out, first = [], 0
    for i, line in enumerate(lines):
        if line.startswith("$") and i > first:
            out.append((first, i - 1))
            first = i
        if re.match(r"(@!?%p\d+ )?bra", line):
            out.append((first, i))
            first = i + 1
    return out + [(first, len(lines) - 1)]


def loops(lines):
    """[(first line, last line)]: from a label to a branch back to it."""
    labels = {line.rstrip(":"): i for i, line in enumerate(lines) if re.fullmatch(r"\$\w+:", line)}
    jumps = ((i, re.search(r"\bbra(?:\.uni)? +(\$\w+)", line)) for i, line in enumerate(lines))
    return [(labels[to.group(1)], i) for i, to in jumps if to and labels.get(to.group(1), len(lines)) < i]


def instructions_per_step(body, note):
    """Of a warp, for one step of all that it multiplies. None where no loop copies and multiplies."""
    lines = [line.strip().replace("\t", " ") for line in body.splitlines() if line.strip()]
    work = "mma.sync" if note["mmas"] else "fma.rn.f32"
    count = lambda first, last: sum(not re.sub(r"^@!?%p\d+ ", "", line).startswith((*NO_INSTRUCTION, "$")) for line in lines[first:last + 1])
    works = lambda first, last: sum(work in line for line in lines[first:last + 1])
    blocks = basic_blocks(lines)
    densest = max(blocks, key=lambda b: works(*b))
    of_step = note["panels"] * note["tiles"] * (note["mmas"] or note["macs"] // 32)
    around = [l for l in loops(lines) if l[0] <= densest[0] and densest[1] <= l[1]]
    copying = [l for l in around if any("cp.async.cg" in line for line in lines[l[0]:l[1] + 1])]
    if not copying or works(*densest) == 0:
        return None
    chunk = min(copying, key=lambda l: l[1] - l[0])
    rest = sum(count(*b) for b in blocks if chunk[0] <= b[0] and b[1] <= chunk[1] and works(*b) == 0)
    return count(*densest) * of_step / works(*densest) + rest / note["chunk"]


def resident_blocks(registers, threads, shared):
    of_warp = -(-registers * 32 // 256) * 256
    return min(REGISTERS // (of_warp * threads // 32), SHARED_BYTES // (shared + SHARED_BYTES_OF_BLOCK), THREADS_MAX // threads)


def bound(body, note, registers):
    """(per cent, what decides)"""
    threads = int(re.search(r"\.maxntid (\d+)", body).group(1)) if ".maxntid" in body else 256
    warps, blocks = threads // 32, resident_blocks(registers, threads, note["shared"])
    weights, instructions = note["panels"] * (note["step"] + note["super"] / 8), instructions_per_step(body, note)
    if instructions is None:
        return 0, "no loop copies and multiplies"
    multiplied = note["panels"] * note["tiles"]
    passes = note["mmas"] * 2048 / note["macs"] if note["mmas"] == 4 else 0.5  # pairs: two of bf16; bytes: twice its speed
    tensor_cycles = multiplied * note["macs"] * passes / BF16_MACS_PER_CYCLE if note["mmas"] else 0
    issue_cycles = instructions / INSTRUCTIONS_PER_CYCLE
    if note["panels"] == 1:  # each warp a slice of the columns
        in_flight = blocks * warps * note["ahead"] * note["chunk"] * note["step"]
        shares = {"bytes on their way": in_flight / (LATENCY_CYCLES * COPY_BYTES_PER_CYCLE),
                  "instructions": weights / issue_cycles / COPY_BYTES_PER_CYCLE,
                  "mma": weights / max(tensor_cycles, 1e-9) / COPY_BYTES_PER_CYCLE,
                  "L2": L2_BYTES_PER_CYCLE * weights / (weights + note["tiles"] * note["record"] / blocks) / COPY_BYTES_PER_CYCLE,
                  "memory": 1}
    else:  # the warps of a block share the activations
        bytes_of_l2 = weights + note["tiles"] * note["record"] / warps
        cycles = {"instructions": issue_cycles, "mma": tensor_cycles, "L2": bytes_of_l2 / L2_BYTES_PER_CYCLE}
        shares = {what: multiplied * note["macs"] / max(each, 1e-9) / BF16_MACS_PER_CYCLE for what, each in cycles.items()}
    decides = min(shares, key=shares.get)
    return int(100 * shares[decides]), decides


def aim(note):
    """Per cent; 0: none."""
    if not note["mmas"] or note["tiles"] == 4:
        return 0
    return AIMS["decode" if note["panels"] == 1 else "prefill"]
