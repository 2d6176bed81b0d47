# Entry and exit: the code every guest's address space maps (in the exposed area, read-only and executable).
#
# This text is linked once and mapped once more in each CPU's exposed block, with that CPU's data page 0x4000
# beyond; everything it needs is reached relative to its own address, so the same bytes serve every CPU.
# Ring 0 never uses GS: swapgs is the guest's own user/kernel toggle. What must always hold:
#  X1: interrupts are off in ring 0 except inside the idle loop's `sti; hlt`.
#  X2: from a guest, nothing but the hardware frame and one scratch word is written to an exposed stack before
#      CR3 names ring 0's own root; the scratch word is wiped.
#  X3: an exception taken in ring 0 restores exactly the CR3 it found.
#  X4: on the way out the last instructions run from exposed memory only.
#  X5: where SMAP is on, AC is set only around the hot transitions' accesses to guest memory (arch/smap.rs M2).
#
# Offsets in the data page: see arch/exposed.rs, which asserts them.

    .set D_HV_CR3, 0x00         # ring 0's root, or 0 where roots are shared
    .set D_PRIV_TOP, 0x08       # end of the private stack's register frame
    .set D_TRANSIT, 0x10        # transit page of the vCPU that runs here
    .set D_S_RSP, 0x18          # scratch
    .set D_FAULT_TOP, 0x20      # private stack for faults taken on exposed stacks
    .set D_NMI_TOP, 0x28
    .set D_MC_TOP, 0x30
    .set D_DF_TOP, 0x38
    .set D_DB_TOP, 0x40
    .set D_S_RAX, 0x50
    .set D_S_RDX, 0x58
    .set D_S_RCX, 0x60
    .set D_S_R11, 0x68
    .set D_HOLE_END, 0x70       # first address above the hypervisor's

    .set ENTRY_TOP, 0x6000      # end of the entry stack, relative to the data page
    .set BLOCK_BYTES, 0x40000

    .set VEC_SYSCALL, 0x100

    # Transit page
    .set T_USER, 0x00           # u8: 1 while the guest runs in its user mode
                                # 0x01, u8: reasons for every transition to be slow (the fast paths ask for 0)
    .set T_MASK_EVENTS, 0x02    # u8: the system-call callback masks events
    .set T_BAD_STACK, 0x03      # u8: no frame may be written below the kernel's stack without looking
    .set T_KERNEL_CR3, 0x08
    .set T_USER_CR3, 0x10
    .set T_KERNEL_SP, 0x18
    .set T_SYSCALL, 0x20
    .set T_VCPU_INFO, 0x28      # address of the vcpu_info in the exposed area
    .set T_CYCLES_KERNEL, 0x30  # cycles in kernel mode, and behind them in user mode: while the guest is in a mode, the
    .set T_CYCLES_USER, 0x38    # reading at which it came into it is taken off
    .set T_LEFT, 0x40           # the last exit to the guest

# The first word of the transit page when the fast transitions may be taken: user mode or not, no reason to go slow,
# the system-call callback masks events, the kernel's stack is one a frame may be written below.
    .set FAST_USER, 0x00010001
    .set FAST_KERNEL, 0x00010000
    .set HYPERCALL_IRET, 23

# Three bytes that do nothing until boot, where it turns SMAP on, makes them the instruction (arch/smap.rs M1).
    .macro SMAP_SITE last_byte
.Lsmap\@:
    .byte 0x0f, 0x1f, 0x00              # nop
    .pushsection .smap_sites, "a"
    .quad .Lsmap\@, \last_byte
    .popsection
    .endm
    .macro CLAC
    SMAP_SITE 0xca
    .endm
    .macro STAC
    SMAP_SITE 0xcb
    .endm

    .section .exposed.text, "ax"
    .balign 4096

# The rest of the register frame, from RSI on.
    .macro SAVE_REST
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    .endm

# The entry's time stamp in RAX, and the call. Leaves RSP at the frame.
    .macro STAMPED_CALL function
    push rax                            # time stamp of the entry
    push 0                              # root to load on exit
    xor ebp, ebp
    mov rdi, rsp
    movabs rax, offset \function
    call rax
    .endm

# The rest of the register frame, RAX being on it, and the call. Leaves RSP at the frame.
    .macro CALL_RUST function
    push rcx
    push rdx
    SAVE_REST
    rdtsc
    shl rdx, 32
    or rax, rdx
    STAMPED_CALL \function
    .endm

# Time stamp of an exit: the account of the mode that the guest goes on in is open from here. Clobbers RAX, RCX, RDX.
    .macro STAMP_EXIT
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov rcx, [rip + exposed_data + D_TRANSIT]
    mov [rcx + T_LEFT], rax
    movzx edx, byte ptr [rcx + T_USER]
    sub [rcx + 8 * rdx + T_CYCLES_KERNEL], rax
    .endm

# ---- from a guest -------------------------------------------------------------------------------------------
# Stack: vector, error code, rip, cs, rflags, rsp, ss. The clock is read as soon as there is a place for what it is read
# into: an interrupt may be another's, and what comes before is the interrupted guest's time.
guest_entry:
    CLAC                                # a guest may set AC as it likes
    push rax
    mov rax, [rip + exposed_data + D_HV_CR3]
    test rax, rax
    jz 1f
    mov cr3, rax
1:  mov rax, rsp
    mov rsp, [rip + exposed_data + D_PRIV_TOP]
    mov [rsp - 72], rcx                 # their places in the frame
    mov [rsp - 80], rdx
    mov rcx, rax
    rdtsc
    shl rdx, 32
    or rax, rdx
    push [rcx + 56]
    push [rcx + 48]
    push [rcx + 40]
    push [rcx + 32]
    push [rcx + 24]
    push [rcx + 16]
    push [rcx + 8]
    push [rcx]
    mov qword ptr [rcx], 0              # X2
    cld
    sub rsp, 16                         # rcx, rdx
    SAVE_REST
    STAMPED_CALL trap_from_guest

# ---- to a guest: RSP at the register frame --------------------------------------------------------------------
    .global exit_to_guest
exit_to_guest:
    lea rdi, [rip + exposed_data + ENTRY_TOP - 56]
    mov rax, [rsp + 152]
    mov [rdi + 16], rax
    mov rax, [rsp + 160]
    mov [rdi + 24], rax
    mov rax, [rsp + 168]
    mov [rdi + 32], rax
    mov rax, [rsp + 176]
    mov [rdi + 40], rax
    mov rax, [rsp + 184]
    mov [rdi + 48], rax
    mov rax, [rsp + 128]                # rax
    mov [rdi + 8], rax
    mov rax, [rsp + 96]                 # rdi
    mov [rdi], rax
    add rsp, 16
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    add rsp, 8
    STAMP_EXIT                          # as late as three registers are free: what follows is the guest's time
    mov rax, [rsp - 104]                # the frame's first word: nothing else was put on this stack
    pop rsi
    pop rdx
    pop rcx
    mov rsp, rdi
    test rax, rax
    jz 1f
    mov cr3, rax
1:  pop rdi
    pop rax
    mov qword ptr [rsp - 8], 0
    mov qword ptr [rsp - 16], 0
    .global guest_iretq
guest_iretq:
    iretq

# ---- system call ----------------------------------------------------------------------------------------------
# Two transitions are carried out here, without ring 0's own root: a system call of the guest's user mode, and the
# return to it by the iret hypercall. Every access to guest memory has a fix-up to the slow path, which begins from the
# registers as they were; the mode changes only after the last such access (D3). Scratch is wiped (X2).
    .macro MAY_FAULT
.Lmay_fault\@:
    .pushsection .fixups, "a"
    .quad .Lmay_fault\@, .Lfast_fault
    .popsection
    .endm

# RSP is a scratch register at first: nothing that could fault is done meanwhile, and what else may come (NMI, machine
# check, a watchpoint) has stacks of its own.
    .global syscall_entry
syscall_entry:
    mov [rip + exposed_data + D_S_RSP], rsp
    mov rsp, [rip + exposed_data + D_TRANSIT]
    cmp dword ptr [rsp + T_USER], FAST_USER
    jne .Lnot_fast_user

    # A system call of user mode. Seven words go to the kernel's stack, which was checked to be the guest's to name.
    mov [rip + exposed_data + D_S_RAX], rax
    mov [rip + exposed_data + D_S_RDX], rdx
    mov rax, [rsp + T_VCPU_INFO]
    cmp byte ptr [rax + 1], 0           # user mode with events masked is nobody's habit
    jne .Lslow
    mov rax, [rsp + T_KERNEL_CR3]
    mov cr3, rax
    mov rax, [rsp + T_KERNEL_SP]
    lea rsp, [rip + exposed_data + ENTRY_TOP]
    STAC
    MAY_FAULT
    mov qword ptr [rax - 8], 0xe02b     # ss
    mov rdx, [rip + exposed_data + D_S_RSP]
    MAY_FAULT
    mov [rax - 16], rdx                 # rsp
    MAY_FAULT
    mov [rax - 24], r11                 # rflags: interrupts on, privilege level 0, as guests always run
    MAY_FAULT
    mov qword ptr [rax - 32], 0xe033    # cs, saved mask 0
    MAY_FAULT
    mov [rax - 40], rcx                 # rip
    MAY_FAULT
    mov [rax - 48], r11
    MAY_FAULT
    mov [rax - 56], rcx
    CLAC
    mov rcx, [rip + exposed_data + D_TRANSIT]
    mov byte ptr [rcx + T_USER], 0
    swapgs
    mov rdx, [rcx + T_VCPU_INFO]
    mov byte ptr [rdx + 1], 1           # events masked
    lea rsp, [rax - 56]
    rdtsc
    shl rdx, 32
    or rax, rdx
    add [rcx + T_CYCLES_USER], rax      # one reading closes the one account and opens the other
    sub [rcx + T_CYCLES_KERNEL], rax
    and r11d, ~0x54500                  # AC, RF, NT, DF, TF
    mov rax, [rip + exposed_data + D_S_RAX]
    mov rdx, [rip + exposed_data + D_S_RDX]
    mov qword ptr [rip + exposed_data + D_S_RAX], 0
    mov qword ptr [rip + exposed_data + D_S_RDX], 0
    mov qword ptr [rip + exposed_data + D_S_RSP], 0
    mov rcx, [rcx + T_SYSCALL]          # canonical: checked when it was registered
    sysretq

.Lnot_fast_user:
    cmp dword ptr [rsp + T_USER], FAST_KERNEL
    jne .Lslow_call
    cmp rax, HYPERCALL_IRET
    jne .Lhypercall

    # iret: nine words at the guest's stack pointer: rax, r11, rcx, (flags), rip, cs, rflags, rsp, ss. Fast only to
    # user code in the lower half with events unmasked, or to kernel code in the upper; and with no event pending.
    mov [rip + exposed_data + D_S_RDX], rdx
    mov rdx, rsp
    lea rsp, [rip + exposed_data + ENTRY_TOP]
    mov [rip + exposed_data + D_S_RCX], rcx
    mov [rip + exposed_data + D_S_R11], r11
    mov rax, [rip + exposed_data + D_S_RSP]
    cmp rax, [rip + exposed_data + D_HOLE_END]
    jb .Lslow_iret
    cmp rax, -128
    ja .Lslow_iret
    STAC
    MAY_FAULT
    push [rax + 64]                     # ss
    MAY_FAULT
    push [rax + 56]                     # rsp
    MAY_FAULT
    push [rax + 48]                     # rflags
    MAY_FAULT
    push [rax + 40]                     # cs
    MAY_FAULT
    push [rax + 32]                     # rip
    MAY_FAULT
    push [rax + 16]                     # rcx
    MAY_FAULT
    push [rax]                          # rax
    MAY_FAULT
    mov r11, [rax + 8]
    CLAC
    movzx ecx, word ptr [rsp + 24]
    mov [rsp + 24], rcx
    not ecx
    test cl, 3
    jnz .Liret_to_kernel
    movzx ecx, word ptr [rsp + 48]
    or ecx, 3
    mov [rsp + 48], rcx
    mov rcx, [rsp + 16]
    shr rcx, 47
    jnz .Lslow_iret
    mov ecx, [rsp + 32]
    test ch, 2
    jz .Lslow_iret
    and ecx, 0x254dd5                   # what a program may have: ID, AC, RF, NT, OF, DF, TF, SF, ZF, AF, PF, CF
    or ecx, 0x202
    mov [rsp + 32], rcx
    mov rax, [rdx + T_USER_CR3]
    test rax, rax
    jz .Lslow_iret
    mov rcx, [rdx + T_VCPU_INFO]
    mov byte ptr [rcx + 1], 0           # unmasked first, then looked: no event falls between
    mfence
    cmp byte ptr [rcx], 0
    jne .Lslow_iret
    mov byte ptr [rdx + T_USER], 1
    mov cr3, rax
    swapgs
    mov rcx, rdx
    rdtsc
    shl rdx, 32
    or rax, rdx
    add [rcx + T_CYCLES_KERNEL], rax
    sub [rcx + T_CYCLES_USER], rax
.Liret_tail:
    mov rdx, [rip + exposed_data + D_S_RDX]
    mov qword ptr [rip + exposed_data + D_S_RDX], 0
    mov qword ptr [rip + exposed_data + D_S_RSP], 0
    mov qword ptr [rip + exposed_data + D_S_RCX], 0
    mov qword ptr [rip + exposed_data + D_S_R11], 0
    pop rax
    pop rcx
    mov qword ptr [rsp - 8], 0
    mov qword ptr [rsp - 16], 0
    .global guest_iretq_fast
guest_iretq_fast:
    iretq

# To the kernel itself, from an event or a fault it took: same root, same mode, perhaps with events still masked.
.Liret_to_kernel:
    not ecx
    test cl, 3
    jnz .Lslow_iret
    or ecx, 3
    mov [rsp + 24], rcx
    movzx ecx, word ptr [rsp + 48]
    or ecx, 3
    mov [rsp + 48], rcx
    mov rcx, [rsp + 16]
    cmp rcx, [rip + exposed_data + D_HOLE_END]
    jb .Lslow_iret
    mov ecx, [rsp + 32]
    mov eax, ecx
    and ecx, 0x254dd5
    or ecx, 0x202
    mov [rsp + 32], rcx
    mov rcx, [rdx + T_VCPU_INFO]
    test ah, 2
    jz 1f
    mov byte ptr [rcx + 1], 0
    mfence
    cmp byte ptr [rcx], 0
    jne .Lslow_iret
    jmp .Liret_tail
1:  mov byte ptr [rcx + 1], 1
    jmp .Liret_tail

# A guest address did not take the access. In the first transition the kernel's root is in force and the mode is still
# "user": put the user's root back, so that mode and root agree. In the second the root never changed.
.Lfast_fault:
    CLAC
    mov rdx, [rip + exposed_data + D_TRANSIT]
    cmp byte ptr [rdx + T_USER], 0
    je .Lslow_iret
    mov rax, [rdx + T_USER_CR3]
    mov cr3, rax
    jmp .Lslow
.Lslow_iret:
    mov rcx, [rip + exposed_data + D_S_RCX]
    mov r11, [rip + exposed_data + D_S_R11]
    mov qword ptr [rip + exposed_data + D_S_RCX], 0
    mov qword ptr [rip + exposed_data + D_S_R11], 0
    mov eax, HYPERCALL_IRET
    jmp 1f
.Lslow:
    mov rax, [rip + exposed_data + D_S_RAX]
    mov qword ptr [rip + exposed_data + D_S_RAX], 0
1:  mov rdx, [rip + exposed_data + D_S_RDX]
    mov qword ptr [rip + exposed_data + D_S_RDX], 0
.Lslow_call:
    lea rsp, [rip + exposed_data + ENTRY_TOP]
    push 0xe02b
    push [rip + exposed_data + D_S_RSP]
    mov qword ptr [rip + exposed_data + D_S_RSP], 0
    push r11
    push 0xe033
    push rcx
    push 0
    push VEC_SYSCALL
    jmp guest_entry

# ---- hypercall ------------------------------------------------------------------------------------------------
# The guest's kernel calls: the frame is built on the private stack at once.
.Lhypercall:
    mov rsp, [rip + exposed_data + D_HV_CR3]
    test rsp, rsp
    jz 1f
    mov cr3, rsp
1:  mov rsp, [rip + exposed_data + D_PRIV_TOP]
    push 0xe02b
    push [rip + exposed_data + D_S_RSP]
    mov qword ptr [rip + exposed_data + D_S_RSP], 0
    push r11
    push 0xe033
    push rcx
    push 0
    push VEC_SYSCALL
    push rax
    CALL_RUST hypercall_from_guest
    test al, al
    jz exit_to_guest

# Back behind the call, as `sysretq` does it: the frame has RCX = RIP and R11 = RFLAGS, and flat selectors.
    STAMP_EXIT
    mov rax, [rsp + 176]
    mov [rip + exposed_data + D_S_RSP], rax
    mov r15, [rsp + 16]
    mov r14, [rsp + 24]
    mov r13, [rsp + 32]
    mov r12, [rsp + 40]
    mov rbp, [rsp + 48]
    mov rbx, [rsp + 56]
    mov r11, [rsp + 64]
    mov r10, [rsp + 72]
    mov r9, [rsp + 80]
    mov r8, [rsp + 88]
    mov rdi, [rsp + 96]
    mov rsi, [rsp + 104]
    mov rdx, [rsp + 112]
    mov rcx, [rsp + 120]
    mov rax, [rsp + 128]
    mov rsp, [rsp]
    test rsp, rsp
    jz 1f
    mov cr3, rsp
1:  mov rsp, [rip + exposed_data + D_S_RSP]
    mov qword ptr [rip + exposed_data + D_S_RSP], 0
    sysretq

# 32-bit system call instructions: told apart by vector.
    .global sysenter_entry
sysenter_entry:
    lea rsp, [rip + exposed_data + ENTRY_TOP]
    push 2                              # the instruction leaves NT and DF as they were, and with NT no iretq works
    popfq
    push 0xe02b
    push 0
    push 0x2
    push 0xe023
    push 0
    push 0
    push VEC_SYSCALL + 1
    jmp guest_entry

    .global syscall32_entry
syscall32_entry:
    mov [rip + exposed_data + D_S_RSP], rsp
    lea rsp, [rip + exposed_data + ENTRY_TOP]
    push 0xe02b
    push [rip + exposed_data + D_S_RSP]
    mov qword ptr [rip + exposed_data + D_S_RSP], 0
    push r11
    push 0xe023
    push rcx
    push 0
    push VEC_SYSCALL + 2
    jmp guest_entry

# ---- from ring 0 ------------------------------------------------------------------------------------------------
# Same stack as guest_entry, on whatever stack ring 0 used. Works on a private stack: the one in use if that is
# private, else the one named. `top` is an offset in the data page.
    .macro RING0_ENTRY top
    CLAC                                # the hot transitions may have been interrupted
    push rax
    push rcx
    push rdx
    mov rax, cr3
    mov rcx, [rip + exposed_data + D_HV_CR3]
    test rcx, rcx
    jz 1f
    mov cr3, rcx
1:  mov rcx, rsp
    lea rdx, [rip + exposed_start]
    neg rdx
    add rdx, rcx
    cmp rdx, BLOCK_BYTES
    jae 2f
    mov rsp, [rip + exposed_data + \top]
2:  cld
    push [rcx + 72]
    push [rcx + 64]
    push [rcx + 56]
    push [rcx + 48]
    push [rcx + 40]
    push [rcx + 32]
    push [rcx + 24]
    push [rcx + 16]                     # rax
    push [rcx + 8]                      # rcx
    push [rcx]                          # rdx
    jmp ring0_common
    .endm

ring0_common:
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rcx                            # the hardware frame's place
    push rax                            # the CR3 found
    mov rbx, rsp
    mov rdi, rsp
    and rsp, -16
    movabs rax, offset trap_from_ring0
    call rax
    test rax, rax
    jnz iret_fault
    mov rsp, rbx
    pop rax
    pop rcx
    mov rdx, [rsp + 152 - 16]           # the handler may have moved RIP to a fix-up
    mov [rcx + 40], rdx
    mov rdx, [rsp + 168 - 16]
    mov [rcx + 56], rdx
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    mov rsp, rcx
    mov rcx, cr3
    cmp rcx, rax
    je 3f
    mov cr3, rax                        # X3
3:  pop rdx
    pop rcx
    pop rax
    mov qword ptr [rsp - 8], 0          # X2, where this is an exposed stack
    mov qword ptr [rsp - 16], 0
    mov qword ptr [rsp - 24], 0
    add rsp, 16
    iretq

# An iretq to the guest faulted. The handler has rebuilt the guest's frame (its address is in RAX).
iret_fault:
    mov rsp, rax
    mov rdi, rax
    xor ebp, ebp
    movabs rax, offset trap_from_guest
    call rax
    jmp exit_to_guest

# ---- vectors ------------------------------------------------------------------------------------------------------
    .macro EITHER name, top
vector_\name:
    test byte ptr [rsp + 24], 3
    jnz guest_entry
    RING0_ENTRY \top
    .endm
    EITHER any, D_FAULT_TOP
    EITHER nmi, D_NMI_TOP
    EITHER mc, D_MC_TOP
    EITHER df, D_DF_TOP
    EITHER db, D_DB_TOP

# One stub a vector, 16 bytes each: a zero where the CPU pushes no error code, the vector's number, a jump.
    .balign 16
    .global vectors_start
vectors_start:
    .set nr, 0
    .rept 256
    .balign 16
    .if (nr == 8) || ((nr >= 10) && (nr <= 14)) || (nr == 17) || (nr == 21) || (nr == 29) || (nr == 30)
    .else
    .byte 0x6a, 0                       # push 0
    .endif
    .byte 0x68                          # push nr
    .long nr
    .if nr == 1
    jmp vector_db
    .elseif nr == 2
    jmp vector_nmi
    .elseif nr == 8
    jmp vector_df
    .elseif nr == 18
    jmp vector_mc
    .else
    jmp vector_any
    .endif
    .set nr, nr + 1
    .endr
