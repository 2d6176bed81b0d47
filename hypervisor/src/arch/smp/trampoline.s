# The first code of CPUs other than 0: from real mode to ring 0's Rust, in one page below 1 MiB.
#
# It is copied there and runs where it lies; EBP is the page's address throughout. What it needs is in the page's last
# quarter, where CPU 0 puts it (arch/smp/trampoline.rs has the same offsets). It runs on tables that map, besides ring 0, this
# page alone at its own address, read-only.
#
# One CPU at a time is wanted, and named. A CPU that comes late, after CPU 0 has given it up, finds another one named or
# nobody wanted, and stays here for ever; so no stack is used twice.

    .set T_WANTED, 0xf00                # 1: the CPU named is wanted. Taken by exchange
    .set T_APIC_ID, 0xf04
    .set T_STATUS, 0xf08                # 0 nothing yet, 1 it is here, 2 it has no 64-bit mode or no NX
    .set T_CR3, 0xf0c
    .set T_STACK, 0xf10
    .set T_ENTRY, 0xf18
    .set T_GDTR, 0xf20                  # limit, base
    .set T_FAR32, 0xf28                 # offset, selector
    .set T_FAR64, 0xf30

    .section .rodata.trampoline, "a"
    .balign 16
    .global trampoline_start
trampoline_start:
    .code16
    cli
    cld
    xor ebp, ebp
    mov ax, cs
    mov ds, ax
    mov bp, ax
    shl ebp, 4
    .byte 0x66, 0x0f, 0x01, 0x16        # lgdt, with all 32 bits of the base
    .word T_GDTR
    mov eax, cr0
    and eax, ~((1 << 29) | (1 << 30))   # caches on
    or al, 1
    mov cr0, eax
    .byte 0x66, 0xff, 0x2e              # far jump to trampoline32, selector 8
    .word T_FAR32

    .code32
    .global trampoline32
trampoline32:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    # Who is this? Its local APIC knows.
    mov ecx, 0x1b
    rdmsr
    test eax, 1 << 10
    jnz 1f
    test edx, edx
    jnz trampoline_stay
    and eax, 0xfffff000
    mov eax, [eax + 0x20]
    shr eax, 24
    jmp 2f
1:  mov ecx, 0x802
    rdmsr
2:  cmp eax, [ebp + T_APIC_ID]
    jne trampoline_stay
    xor eax, eax
    xchg eax, [ebp + T_WANTED]
    test eax, eax
    jz trampoline_stay
    mov dword ptr [ebp + T_STATUS], 1

    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb trampoline_unfit
    mov eax, 0x80000001
    cpuid
    and edx, (1 << 29) | (1 << 20)
    cmp edx, (1 << 29) | (1 << 20)
    jne trampoline_unfit

    mov eax, [ebp + T_CR3]
    mov cr3, eax
    mov eax, 1 << 5                     # PAE
    mov cr4, eax
    mov ecx, 0xC0000080
    xor edx, edx
    mov eax, (1 << 8) | (1 << 11)       # LME, NXE
    wrmsr
    mov eax, (1 << 31) | (1 << 16) | (1 << 4) | 1   # PG, WP, ET, PE
    mov cr0, eax
    jmp fword ptr [ebp + T_FAR64]

trampoline_unfit:
    mov dword ptr [ebp + T_STATUS], 2
trampoline_stay:
    cli
    hlt
    jmp trampoline_stay

    .code64
    .global trampoline64
trampoline64:
    mov eax, 0x10
    mov ss, eax
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov eax, ebp
    mov rsp, [rax + T_STACK]
    mov rax, [rax + T_ENTRY]
    xor ebp, ebp
    call rax
    ud2
    .global trampoline_end
trampoline_end:
