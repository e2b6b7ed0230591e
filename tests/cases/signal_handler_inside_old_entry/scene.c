/* The third byte of `compute` is an instruction that does not exist: its signal handler finds the program counter inside
 * the five bytes that a reload would overwrite. */
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

long compute(long x);
__asm__(".globl compute\n"
        ".type compute, @function\n"
        "compute:\n"
        "    nop\n"
        "    nop\n"
        "    ud2\n"
        "    lea 100*" TEXT(VERSION) "(%rdi), %rax\n"
        "    ret\n"
        ".size compute, . - compute\n");
