package clock

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"time"
)

// entry is the function of the vDSO that programs call, and jumpSize how much of it is overwritten: jmp rel32.
const (
	entry    = "__vdso_clock_gettime"
	jumpSize = 5
)

// layout says where in a vDSO image things are.
type layout struct {
	image []byte // pristine
	// entry is where the function begins, stub where there is room that nothing uses.
	entry, stub int
}

// layOut finds them, or says why a vDSO cannot be changed.
func layOut(image []byte) (layout, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return layout{}, fmt.Errorf("%w: its vDSO is no ELF file: %w", ErrUnsupported, err)
	}
	if f.Machine != elf.EM_X86_64 {
		return layout{}, fmt.Errorf("%w: its vDSO is of %s, and the stub is written for x86-64", ErrUnsupported, f.Machine)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return layout{}, fmt.Errorf("%w: symbols of its vDSO: %w", ErrUnsupported, err)
	}
	i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == entry })
	if i < 0 {
		return layout{}, fmt.Errorf("%w: its vDSO has no %s", ErrUnsupported, entry)
	}
	l := layout{image: image, entry: int(symbols[i].Value)} // the image is linked to address 0
	if symbols[i].Size < jumpSize || l.entry <= 0 || l.entry+jumpSize > len(image) {
		return layout{}, fmt.Errorf("%w: %s of its vDSO is not where it is expected (at %d, %d bytes)", ErrUnsupported, entry, l.entry, symbols[i].Size)
	}
	used := len(bytes.TrimRight(image, "\x00"))
	const align = 16
	l.stub = (used + 2*align - 1) / align * align // with some zeros between that may belong to something
	if room := len(image) - l.stub; room < stubSize {
		return layout{}, fmt.Errorf("%w: its vDSO has %d bytes to spare, and the stub takes %d", ErrUnsupported, room, stubSize)
	}
	return l, nil
}

// jump leads from the entry to the stub.
func (l layout) jump() []byte {
	return binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(int32(l.stub-l.entry-jumpSize)))
}

// program is the stub. It makes the real system call; then, for the clocks 0 (CLOCK_REALTIME) and 5
// (CLOCK_REALTIME_COARSE), and while CLOCK_MONOTONIC is below the deadline, it adds the offset. It uses no register that a
// caller wants back, and the stack as any function does.
var program = []byte{
	0xb8, 0xe4, 0, 0, 0, // mov eax, 228 (clock_gettime)
	0x0f, 0x05, // syscall
	0x85, 0xc0, // test eax, eax
	0x75, 107, // jne ret
	0x85, 0xff, // test edi, edi
	0x74, 5, // je over
	0x83, 0xff, 5, // cmp edi, 5
	0x75, 98, // jne ret
	0x48, 0x83, 0xec, 0x18, // over: sub rsp, 24
	0x57,             // push rdi
	0x56,             // push rsi
	0xbf, 1, 0, 0, 0, // mov edi, 1 (CLOCK_MONOTONIC)
	0x48, 0x8d, 0x74, 0x24, 0x10, // lea rsi, [rsp+16]
	0xb8, 0xe4, 0, 0, 0, // mov eax, 228
	0x0f, 0x05, // syscall
	0x48, 0x8b, 0x54, 0x24, 0x10, // mov rdx, [rsp+16]
	0x5e,                   // pop rsi
	0x5f,                   // pop rdi
	0x48, 0x83, 0xc4, 0x18, // add rsp, 24
	0x31, 0xc0, // xor eax, eax
	0x48, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, // mov rcx, deadline
	0x48, 0x39, 0xca, // cmp rdx, rcx
	0x7d, 47, // jge ret
	0x48, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, // mov rcx, seconds
	0x48, 0x01, 0x0e, // add [rsi], rcx
	0x48, 0x8b, 0x4e, 0x08, // mov rcx, [rsi+8]
	0x48, 0x81, 0xc1, 0, 0, 0, 0, // add rcx, nanoseconds
	0x48, 0x81, 0xf9, 0x00, 0xca, 0x9a, 0x3b, // cmp rcx, 1000000000
	0x7c, 10, // jl store
	0x48, 0x81, 0xe9, 0x00, 0xca, 0x9a, 0x3b, // sub rcx, 1000000000
	0x48, 0xff, 0x06, // inc qword [rsi]
	0x48, 0x89, 0x4e, 0x08, // store: mov [rsi+8], rcx
	0xc3, // ret
}

// Where the numbers stand in the program; the owner follows it.
const (
	atDeadline    = 58
	atSeconds     = 73
	atNanoseconds = 91
	atOwner       = 120
	stubSize      = atOwner + 8
)

// stub is the program with an offset, the deadline in seconds of the monotonic clock, and the owner behind it.
func stub(offset time.Duration, deadline int64, owner uint64) []byte {
	seconds, nanoseconds := int64(offset/time.Second), int64(offset%time.Second)
	if nanoseconds < 0 {
		seconds, nanoseconds = seconds-1, nanoseconds+int64(time.Second)
	}
	b := make([]byte, stubSize)
	copy(b, program)
	binary.LittleEndian.PutUint64(b[atDeadline:], uint64(deadline))
	binary.LittleEndian.PutUint64(b[atSeconds:], uint64(seconds))
	binary.LittleEndian.PutUint32(b[atNanoseconds:], uint32(nanoseconds))
	binary.LittleEndian.PutUint64(b[atOwner:], owner)
	return b
}

// parse reads the numbers out of a stub; false if it is none.
func parse(b []byte) (offset time.Duration, deadline int64, owner uint64, ok bool) {
	if len(b) < stubSize {
		return 0, 0, 0, false
	}
	deadline = int64(binary.LittleEndian.Uint64(b[atDeadline:]))
	offset = time.Duration(int64(binary.LittleEndian.Uint64(b[atSeconds:])))*time.Second +
		time.Duration(binary.LittleEndian.Uint32(b[atNanoseconds:]))
	owner = binary.LittleEndian.Uint64(b[atOwner:])
	return offset, deadline, owner, bytes.Equal(b[:stubSize], stub(offset, deadline, owner))
}

func ownerID(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name)) // never fails
	return h.Sum64()
}

// understand says what stands in a process's copy.
func (l layout) understand(copied []byte, now int64) (State, error) {
	if bytes.Equal(copied, l.image) {
		return State{}, nil
	}
	if len(copied) != len(l.image) {
		return State{}, fmt.Errorf("%w: its vDSO has %d bytes, and that of this process %d", ErrUnsupported, len(copied), len(l.image))
	}
	rest := bytes.Clone(copied)
	copy(rest[l.entry:], l.image[l.entry:l.entry+jumpSize])
	copy(rest[l.stub:], l.image[l.stub:l.stub+stubSize])
	if !bytes.Equal(rest, l.image) {
		return State{}, fmt.Errorf("%w: its vDSO is not that of this process", ErrUnsupported)
	}
	offset, deadline, owner, ok := parse(copied[l.stub:])
	switch jumps := bytes.Equal(copied[l.entry:l.entry+jumpSize], l.jump()); {
	case ok && jumps:
		return State{Changed: true, Offset: offset, Left: time.Duration(deadline-now) * time.Second, owner: owner}, nil
	case bytes.Equal(copied[l.entry:l.entry+jumpSize], l.image[l.entry:l.entry+jumpSize]):
		return State{}, nil // a stub that nothing leads to: whoever wrote it was interrupted
	}
	return State{}, ErrTaken
}
