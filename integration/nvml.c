/* A stand-in for NVIDIA's management library on machines without GPUs.
 *
 * PFS_STUB_GPUS holds one GPU in a line: UUID, memory in bytes and model, with one blank between them. Lines below it
 * that begin with a blank say how it does:
 *
 *      lost                         nothing is told of it
 *      unreachable                  only its name is told of it
 *      ecc COUNT                    errors of its memory that could not be corrected
 *      remap PENDING FAILED         rows of its memory that are, or cannot be, replaced
 *      retire                       a page of its memory is about to be replaced
 *      recovery NUMBER              what the driver wants done
 *      util PERCENT                 and its temperature, where that is not 30
 *      temperature DEGREES
 *      process PID BYTES
 *      mig UUID BYTES GI CI MODEL   an instance: it is divided
 *
 * With "@PATH" all this stands in a file, which is read at each start. Without the variable or the file the driver is
 * not there; with "broken" it does not fit the library, as after an update, until the library is loaded anew.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SUCCESS = 0,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    GPU_IS_LOST = 15,
    MISMATCH = 18,
    GPUS_MAX = 64,
    PARTS_MAX = 8,
    PROCESSES_MAX = 8,
    TEXT_MAX = 65536
};

struct process {
    unsigned int pid;
    unsigned long long memory;
    unsigned int outer, inner;
};
struct gpu {
    char uuid[96], model[96];
    unsigned long long memory, ecc;
    unsigned int minor, lost, unreachable, pending, failed, retire, recovery, util, temperature, outer, inner;
    struct process processes[PROCESSES_MAX];
    unsigned int process_count;
    struct gpu *parts[PARTS_MAX];
    unsigned int part_count, is_part;
};
struct memory {
    unsigned long long total, free, used;
};
struct utilization {
    unsigned int gpu, memory;
};
struct field {
    unsigned int id, scope;
    long long timestamp, latency;
    unsigned int type, result;
    unsigned long long value;
};

static struct gpu gpus[GPUS_MAX], parts[GPUS_MAX];
static unsigned int count, part_count;

static void describe(struct gpu *gpu, const char *line) {
    struct gpu *part = &parts[part_count % GPUS_MAX];
    struct process *process = &gpu->processes[gpu->process_count % PROCESSES_MAX];
    gpu->lost |= strncmp(line, "lost", 4) == 0;
    gpu->unreachable |= strncmp(line, "unreachable", 11) == 0;
    gpu->retire |= strncmp(line, "retire", 6) == 0;
    sscanf(line, "ecc %llu", &gpu->ecc);
    sscanf(line, "remap %u %u", &gpu->pending, &gpu->failed);
    sscanf(line, "recovery %u", &gpu->recovery);
    sscanf(line, "util %u", &gpu->util);
    sscanf(line, "temperature %u", &gpu->temperature);
    if (sscanf(line, "process %u %llu", &process->pid, &process->memory) == 2)
        gpu->process_count++;
    if (sscanf(line, "mig %95s %llu %u %u %95[^\n]", part->uuid, &part->memory, &part->outer, &part->inner,
               part->model) == 5) {
        part->is_part = 1;
        part->minor = gpu->minor;
        gpu->parts[gpu->part_count++ % PARTS_MAX] = part;
        part_count++;
    }
}

static void read_line(char *line) {
    struct gpu *gpu = &gpus[count % GPUS_MAX];
    if (line[0] == ' ' && count > 0) {
        describe(&gpus[count - 1], line + 1);
    } else if (sscanf(line, "%95s %llu %95[^\n]", gpu->uuid, &gpu->memory, gpu->model) == 3) {
        gpu->temperature = 30;
        gpu->minor = count++;
    }
}

static int read_all(char *text, const char *source) {
    size_t length;
    FILE *file;
    if (source == NULL)
        return 0;
    if (source[0] != '@')
        return snprintf(text, TEXT_MAX, "%s", source) >= 0;
    file = fopen(source + 1, "r");
    if (file == NULL)
        return 0;
    length = fread(text, 1, TEXT_MAX - 1, file);
    text[length] = 0;
    fclose(file);
    return 1;
}

int nvmlInitWithFlags(unsigned int flags) {
    static char text[TEXT_MAX];
    static int unfit;
    char *line, *rest = text;
    (void)flags;
    memset(gpus, 0, sizeof gpus);
    memset(parts, 0, sizeof parts);
    count = part_count = 0;
    if (!read_all(text, getenv("PFS_STUB_GPUS")))
        return DRIVER_NOT_LOADED;
    unfit |= strncmp(text, "broken", 6) == 0;
    if (unfit)
        return MISMATCH;
    while ((line = strsep(&rest, "\n")) != NULL)
        read_line(line);
    return SUCCESS;
}

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int result) { return result == MISMATCH ? "Driver/library version mismatch" : "Error"; }

int nvmlSystemGetDriverVersion(char *text, unsigned int length) {
    snprintf(text, length, "575.1");
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned int *found) {
    *found = count;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, struct gpu **device) {
    if (index >= count)
        return INVALID_ARGUMENT;
    *device = &gpus[index];
    return gpus[index].lost ? GPU_IS_LOST : SUCCESS;
}

int nvmlDeviceGetUUID(struct gpu *device, char *text, unsigned int length) {
    snprintf(text, length, "%s", device->uuid);
    return SUCCESS;
}

int nvmlDeviceGetName(struct gpu *device, char *text, unsigned int length) {
    snprintf(text, length, "%s", device->model);
    return SUCCESS;
}

int nvmlDeviceGetSerial(struct gpu *device, char *text, unsigned int length) {
    snprintf(text, length, "serial%u", device->minor);
    return SUCCESS;
}

int nvmlDeviceGetMinorNumber(struct gpu *device, unsigned int *minor) {
    *minor = device->minor;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(struct gpu *device, struct memory *memory) {
    unsigned int i;
    memory->total = device->memory;
    memory->used = 0;
    for (i = 0; i < device->process_count; i++)
        memory->used += device->processes[i].memory;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(struct gpu *device, unsigned int *now, unsigned int *pending) {
    *now = *pending = device->part_count > 0;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(struct gpu *device, unsigned int *most) {
    (void)device;
    *most = PARTS_MAX;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(struct gpu *device, unsigned int index, struct gpu **part) {
    if (index >= device->part_count)
        return NOT_FOUND;
    *part = device->parts[index];
    return SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(struct gpu *device, unsigned int *id) {
    *id = device->outer;
    return SUCCESS;
}

int nvmlDeviceGetComputeInstanceId(struct gpu *device, unsigned int *id) {
    *id = device->inner;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(struct gpu *device, struct utilization *utilization) {
    if (device->is_part)
        return NOT_SUPPORTED;
    utilization->gpu = device->util;
    utilization->memory = 0;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(struct gpu *device, unsigned int sensor, unsigned int *degrees) {
    (void)sensor;
    *degrees = device->temperature;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(struct gpu *device, unsigned int *found, struct process *processes) {
    unsigned int room = *found;
    *found = device->process_count;
    if (room < device->process_count)
        return INSUFFICIENT_SIZE;
    if (processes != NULL)
        memcpy(processes, device->processes, device->process_count * sizeof *processes);
    return SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(struct gpu *device, unsigned int kind, unsigned int counter,
                                unsigned long long *errors) {
    (void)counter;
    if (device->unreachable)
        return GPU_IS_LOST;
    *errors = kind == 1 ? device->ecc : 0;
    return SUCCESS;
}

int nvmlDeviceGetRemappedRows(struct gpu *device, unsigned int *corrected, unsigned int *uncorrected,
                              unsigned int *pending, unsigned int *failed) {
    *corrected = *uncorrected = 0;
    *pending = device->pending;
    *failed = device->failed;
    return SUCCESS;
}

int nvmlDeviceGetRetiredPagesPendingStatus(struct gpu *device, unsigned int *pending) {
    *pending = device->retire;
    return SUCCESS;
}

int nvmlDeviceGetFieldValues(struct gpu *device, int number, struct field *fields) {
    (void)number;
    fields[0].result = SUCCESS;
    fields[0].value = device->recovery;
    return SUCCESS;
}
