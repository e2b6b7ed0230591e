/* Functions that are patched: each answers the version that was written into it last.
 * mov $VERSION, %eax; ret */
__asm__(".text\n.balign 64\n.globl functions\n.type functions, @function\nfunctions:\n"
        ".rept " LIBRARY_COUNT "\n.balign 64\nmovl $1, %eax\nret\n.endr\n.size functions, . - functions\n");

/* A loop that never leaves its instruction: a thread in here stands in the way of a patch for good. */
__asm__(".balign 64\n.globl spin\n.type spin, @function\nspin:\nnop\n0: jmp 0b\n.size spin, . - spin\n");

/* Two versions of one function, four instructions in the five bytes that are patched: x, and x + 1 by a jump to the other. */
__asm__(".balign 64\n.globl several\n.type several, @function\nseveral:\n"
        "push %rbx\npush %rcx\nmov %edi, %ebx\npush %rdx\n"
        "mov %rbx, %rax\npop %rdx\npop %rcx\npop %rbx\nret\n.size several, . - several\n"
        ".balign 64\n.globl other\n.type other, @function\nother:\nlea 1(%rdi), %rax\nret\n.size other, . - other\n");

int storage = 7;
int *reference = &storage;
const int relro_answer = 5;
const int *const relro = &relro_answer;
