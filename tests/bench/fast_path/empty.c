// An allocator that does nothing, to count the harness of driver.cc: every allocating call is two instructions, every
// freeing one a single instruction. All blocks are the same memory.

#define FUNCTION(name, body) asm(".globl " #name "\n.type " #name ",@function\n" #name ":\n" body "\n.size " #name ",.-" #name "\n")
#define GIVES(name) FUNCTION(name, "lea block(%rip),%rax\nret")
#define TAKES(name) FUNCTION(name, "ret")

asm(".text");
GIVES(malloc);
GIVES(calloc);
GIVES(realloc);
GIVES(memalign);
GIVES(aligned_alloc);
GIVES(_Znwm);
GIVES(_Znam);
TAKES(free);
TAKES(_ZdlPv);
TAKES(_ZdlPvm);
asm(".local block\n.comm block,1048576,4096");
