/* bare_exec PROGRAM: becomes PROGRAM with no argument at all, not even a name, and no environment. */
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    char *none[] = {NULL};
    execve(argv[1], none, none);
    return 127;
}
