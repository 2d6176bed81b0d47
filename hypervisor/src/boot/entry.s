# Boot: from the loader's 32-bit protected mode to the 64-bit Rust entry in the higher half.
#
# What must hold on entry (multiboot 1 and 2): paging off, flat segments, EAX = magic, EBX = physical address of
# the boot information. Nothing else is assumed; the loader's stack and descriptor table are not used.

    .section .boot.header, "a"
    .code32
    .balign 8
mb1_header:
    .set MB1_FLAGS, 0x00010003          # page-aligned modules, memory map, address fields valid
    .long 0x1BADB002
    .long MB1_FLAGS
    .long -(0x1BADB002 + MB1_FLAGS)
    .long mb1_header                    # header_addr
    .long image_phys_start              # load_addr
    .long image_phys_file_end           # load_end_addr
    .long image_phys_end                # bss_end_addr
    .long boot_entry32                  # entry_addr

    .balign 8
mb2_header:
    .long 0xE85250D6
    .long 0                             # i386 protected mode
    .long mb2_header_end - mb2_header
    .long -(0xE85250D6 + (mb2_header_end - mb2_header))
    .balign 8                           # information request: memory map, modules, command line, ACPI, EFI
    .word 1
    .word 1                             # optional
    .long 8 + 4 * 6
    .long 1, 3, 6, 12, 14, 15
    .balign 8                           # modules page-aligned
    .word 6
    .word 0
    .long 8
    .balign 8
    .word 0
    .word 0
    .long 8
mb2_header_end:

    .section .boot.text, "ax"
    .code32
    .global boot_entry32
boot_entry32:
    cli
    cld
    mov esi, eax                        # magic
    mov [boot_magic], eax
    mov edi, ebx                        # boot information
    mov esp, offset boot_stack_end

    # A CPU without long mode or NX gets one sentence on the first serial port.
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb no_long_mode
    mov eax, 0x80000001
    cpuid
    test edx, 1 << 29
    jz no_long_mode
    test edx, 1 << 20
    jz no_nx

    # Early tables: the first 4 GiB in 2 MiB pages, seen at 0, at the direct map's and at the image's base.
    mov eax, offset boot_l2
    mov ebx, 0x83                       # present, writable, large
    xor edx, edx
    mov ecx, 2048
1:  mov [eax], ebx
    mov [eax + 4], edx
    add ebx, 0x200000
    add eax, 8
    loop 1b

    # The 2 MiB with the guard page below the boot stack are mapped by 4 KiB pages, all but that one.
    mov esi, offset boot_stack_guard_phys
    mov ebx, esi
    and ebx, 0xffe00000
    lea eax, [ebx + 3]
    mov ecx, offset boot_l1
15: mov [ecx], eax
    add eax, 4096
    add ecx, 8
    cmp ecx, offset boot_l1 + 4096
    jb 15b
    shr ebx, 21
    mov dword ptr [boot_l2 + ebx * 8], offset boot_l1 + 3
    mov eax, esi
    shr eax, 12
    and eax, 511
    mov dword ptr [boot_l1 + eax * 8], 0
    mov esi, [boot_magic]

    mov eax, offset boot_l2 + 3
    mov ebx, offset boot_l3
    mov ecx, 4
2:  mov [ebx], eax
    add eax, 4096
    add ebx, 8
    loop 2b

    mov eax, offset boot_l3 + 3
    mov ebx, offset boot_l4
    mov [ebx], eax
    mov [ebx + 258 * 8], eax
    mov [ebx + 262 * 8], eax

    mov cr3, ebx
    mov eax, cr4
    or eax, 1 << 5                      # PAE
    mov cr4, eax
    mov ecx, 0xC0000080
    rdmsr
    or eax, (1 << 8) | (1 << 11)        # LME, NXE
    wrmsr
    mov eax, cr0
    and eax, ~((1 << 29) | (1 << 30))   # caches on
    or eax, (1 << 31) | (1 << 16) | 1   # PG, WP, PE
    mov cr0, eax
    lgdt [boot_gdtr]
    # Far jump to 64-bit code: selector 8.
    .byte 0xEA
    .long boot_entry64
    .word 8

no_long_mode:
    mov esi, offset no_long_mode_text
    jmp boot_complain
no_nx:
    mov esi, offset no_nx_text
boot_complain:
    mov dx, 0x3f8 + 3
    mov al, 3
    out dx, al
3:  lodsb
    test al, al
    jz 5f
    mov bl, al
    mov dx, 0x3f8 + 5
    mov ecx, 100000
4:  in al, dx
    test al, 0x20
    loopz 4b
    mov dx, 0x3f8
    mov al, bl
    out dx, al
    jmp 3b
5:  # `exit_port=` on the command line decides whether QEMU is left; it is looked for here because nothing later runs.
    call boot_find_exit_port
    test edx, edx
    jz 6f
    mov al, 0x21
    out dx, al
6:  cli
    hlt
    jmp 6b

# EDX := port named by "exit_port=0x..." in the loader's command line, or 0. EDI = boot information.
boot_find_exit_port:
    xor edx, edx
    cmp dword ptr [boot_magic], 0x36d76289
    je 12f
    mov ebx, [edi + 16]                 # multiboot1: cmdline, if flag 2 says that there is one
    test dword ptr [edi], 4
    jz 9f
    jmp 14f
12: lea ebx, [edi + 8]                  # multiboot2: tags from offset 8; type 1 is the command line, 0 the end
    mov ecx, 64
13: cmp dword ptr [ebx], 0
    je 9f
    cmp dword ptr [ebx], 1
    lea eax, [ebx + 8]
    cmove ebx, eax
    je 14f
    mov eax, [ebx + 4]
    add eax, 7
    and eax, ~7
    jz 9f
    add ebx, eax
    loop 13b
    jmp 9f
14:
    mov ecx, 1024
7:  cmp dword ptr [ebx], 0x74697865     # "exit"
    jne 8f
    cmp dword ptr [ebx + 4], 0x726f705f # "_por"
    jne 8f
    cmp dword ptr [ebx + 8], 0x78303d74 # "t=0x"
    jne 8f
    add ebx, 12
10: movzx eax, byte ptr [ebx]
    cmp al, ' '
    jbe 9f
    or al, 0x20
    sub al, '0'
    cmp al, 9
    jbe 11f
    sub al, 'a' - '0' - 10
    cmp al, 15
    ja 9f
11: shl edx, 4
    or dl, al
    inc ebx
    jmp 10b
8:  cmp byte ptr [ebx], 0
    je 9f
    inc ebx
    loop 7b
9:  ret

    .code64
boot_entry64:
    mov eax, 16
    mov ss, eax
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    # From here on only the higher-half addresses are used; the identity map goes with the boot tables.
    movabs rsp, offset boot_stack_high_end
    xor ebp, ebp
    # Until CPU 0's own descriptor tables are in force, every exception is told of by `boot_trap`, on a stack of its
    # own: the boot stack may be what failed.
    mov ecx, 32
    mov eax, offset boot_trap_stubs
    mov ebx, offset boot_idt
16: mov [rbx], ax                       # offset, selector 8, stack 1, interrupt gate
    mov dword ptr [rbx + 2], 0x8e010008
    mov edx, eax
    shr edx, 16
    mov [rbx + 6], dx
    add eax, 8
    add ebx, 16
    loop 16b
    lidt [boot_idtr]
    movabs rax, offset boot_trap_stack_end
    mov [boot_tss + 36], rax
    mov eax, offset boot_tss
    mov [boot_gdt + 24 + 2], ax
    shr eax, 16
    mov [boot_gdt + 24 + 4], al
    mov [boot_gdt + 24 + 7], ah
    mov eax, 24
    ltr ax
    mov eax, esi
    mov esi, edi
    mov edi, eax
    movabs rax, offset start
    call rax
    ud2

    # One stub a vector, 8 bytes apart: what it pushes tells `boot_trap_common` which one it was.
    .balign 8
boot_trap_stubs:
    .rept 32
    call boot_trap_common
    .balign 8
    .endr
boot_trap_common:
    # Make a `Regs` (arch/regs.rs) of the stack: hardware frame, error code (0 where the vector has none), vector.
    push rax
    mov rax, [rsp + 8]
    sub rax, offset boot_trap_stubs
    shr eax, 3
    bt dword ptr [boot_error_codes], eax
    jc 17f
    push [rsp]                          # no error code: the stub's return address stays where one would be
    mov [rsp + 8], rax
    mov qword ptr [rsp + 16], 0
    jmp 18f
17: mov [rsp + 8], rax
18: pop rax
    .irp reg, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11, rbx, rbp, r12, r13, r14, r15
    push \reg
    .endr
    push 0
    push 0
    mov rdi, rsp
    xor ebp, ebp
    movabs rax, offset boot_trap
    call rax
    ud2

    .section .boot.data, "aw"
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00AF9B000000FFFF            # 64-bit code
    .quad 0x00CF93000000FFFF            # data
    .quad 0x0000890000000067            # task state; its address is filled in
    .quad 0
boot_gdtr:
    .word 39
    .quad boot_gdt
boot_idtr:
    .word 32 * 16 - 1
    .quad boot_idt
boot_error_codes:                       # vectors whose exceptions push an error code
    .long 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30
boot_magic:
    .long 0
no_long_mode_text:
    .asciz "hypervisor: this CPU has no 64-bit mode; use an x86-64 machine\r\n"
no_nx_text:
    .asciz "hypervisor: this CPU has no NX (no-execute) page protection or firmware hides it; enable it in the firmware set-up\r\n"

    .balign 4096
boot_l4: .skip 4096
boot_l3: .skip 4096
boot_l2: .skip 4 * 4096
boot_l1: .skip 4096
boot_idt: .skip 32 * 16
boot_tss: .skip 104
    .balign 16
boot_stack: .skip 1024
boot_stack_end:

    .section .bss.boot_stack, "aw", @nobits
    .balign 4096
    .global boot_stack_guard
boot_stack_guard:
    .skip 4096
    .skip 0x40000
boot_stack_high_end:
    .skip 0x4000
boot_trap_stack_end:
