/* Waits by poll(2) until a job's `state` says one of the words: await_state PATH WORD... . Prints every state it read. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **words)
{
    char text[64];
    struct pollfd state = {.fd = open(words[1], O_RDONLY), .events = POLLPRI};

    if (state.fd < 0) {
        perror(words[1]);
        return 1;
    }
    while (poll(&state, 1, -1) == 1) {
        if (!(state.revents & POLLPRI)) {
            fprintf(stderr, "woken by %#x\n", (unsigned)state.revents);
            return 1;
        }
        ssize_t size = pread(state.fd, text, sizeof text - 1, 0);
        if (size < 1) {
            perror("pread");
            return 1;
        }
        text[size - 1] = 0;
        puts(text);
        fflush(stdout);
        for (int number = 2; number < count; number++)
            if (strcmp(text, words[number]) == 0)
                return 0;
    }
    perror("poll");
    return 1;
}
