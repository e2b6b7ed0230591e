/* Hand-written assembly: data and functions without types, sizes, or any symbol at all. */
        .bss
        .balign 16
.Lcalls: .zero 8
.Lmore: .zero 8

        .data
        .balign 16
#if VERSION >= 4
.Linserted: .quad 77
#endif
.Lsum:  .quad 100
.Lend_of_sum:
        .globl plain_data
plain_data: .quad 7

        .text
        .globl compute
        .type compute, @function
compute:
        incq .Lcalls(%rip)
        addq %rdi, .Lsum(%rip)
        movq .Lsum(%rip), %rax
#if VERSION >= 2
        addq $(VERSION * 1000), %rax
#endif
#if VERSION >= 3
        incq .Lmore(%rip)
#endif
#if VERSION >= 4
        addq .Linserted(%rip), %rax
#endif
        ret
        .size compute, . - compute

/* No type, no size. */
        .globl calls
calls:
        movq .Lcalls(%rip), %rax
        addq %rdi, %rax
#if VERSION >= 2
        imulq $VERSION, %rax
#endif
        ret

        .globl plain
        .type plain, @function
plain:
        movq plain_data@GOTPCREL(%rip), %rax
        addq %rdi, (%rax)
        movq (%rax), %rax
        addq $(VERSION * 1000), %rax
        ret
        .section .note.GNU-stack,"",@progbits
