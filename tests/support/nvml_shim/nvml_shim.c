/* A libnvidia-ml.so.1 without a GPU: it plays the script that NVML_SHIM_SCRIPT names.
 *
 *   init 9                    the first nvmlInit answers 9 (driver not loaded); again for the next
 *   gpu GPU-aaaa NVIDIA_H100  one GPU each, counted from 0; _ is a space
 *   0 0 util=35 power=310000  GPU 0 from its step 0 on: values, in NVML's own units
 *   0 0 energy=!3             this sensor answers 3 (not supported)
 *   1 4 all=!15               from step 4 on every call for GPU 1 answers 15 (GPU is lost)
 *   0 6 all=!restart          every call answers 1 (uninitialized) until a shutdown and an init
 *
 * Values stay until a later step changes them. A GPU's step ends when one of its functions is
 * called that this step has seen already, so that a step is a sample, however fast they come.
 * Compiled with -DWITHOUT_ENERGY or -DWITHOUT_EVENT_REASONS it lacks these symbols, as older
 * drivers do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum sensor { UTIL, MEMORY, TEMP, POWER, ENERGY, SM, MEMCLOCK, REASONS, TX, RX, MIG, OPEN, ALL,
              SENSORS };
static const char *const NAMES[SENSORS] = {"util", "memory", "temp", "power", "energy", "sm",
                                           "memclock", "reasons", "tx", "rx", "mig", "open", "all"};
#define GPUS 8
#define LINES 200
#define UNINITIALIZED 1
#define NOT_FOUND 6
#define RESTART (-1)

struct reading { int is_error; long long value; };
struct line { int gpu, step, sensor; struct reading reading; };
struct gpu {
    char uuid[80], name[80];
    int step, restarted_at; /* the count of inits when a restart was first asked for */
    unsigned called;
};

static struct gpu gpus[GPUS];
static struct line lines[LINES];
static int gpu_count, line_count, inits_wrong[LINES], wrong_count, init_calls, opened;
static char loaded[4096];

static void add_line(int gpu, int step, const char *word) {
    for (int i = 0; i < SENSORS; i++) {
        size_t n = strlen(NAMES[i]);
        if (strncmp(word, NAMES[i], n) || word[n] != '=' || line_count == LINES) continue;
        const char *value = word + n + 1;
        struct reading r = {*value == '!', 0};
        if (r.is_error) value++;
        r.value = strcmp(value, "restart") ? strtoll(value, NULL, 0) : RESTART;
        lines[line_count++] = (struct line){gpu, step, i, r};
        return;
    }
    fprintf(stderr, "nvml_shim: what is %s?\n", word);
    abort();
}

static void load_script(void) {
    const char *path = getenv("NVML_SHIM_SCRIPT");
    if (!path || !strcmp(path, loaded)) return; /* an init after the first keeps the state */
    snprintf(loaded, sizeof loaded, "%s", path);
    memset(gpus, 0, sizeof gpus);
    gpu_count = line_count = wrong_count = init_calls = opened = 0;
    FILE *file = fopen(path, "r");
    if (!file) abort();
    char text[1024];
    while (fgets(text, sizeof text, file)) {
        char *save, *word = strtok_r(text, " \n", &save);
        if (!word) continue;
        if (!strcmp(word, "init")) {
            inits_wrong[wrong_count++] = atoi(strtok_r(NULL, " \n", &save));
        } else if (!strcmp(word, "gpu")) {
            struct gpu *gpu = &gpus[gpu_count++];
            gpu->restarted_at = -1;
            snprintf(gpu->uuid, sizeof gpu->uuid, "%s", strtok_r(NULL, " \n", &save));
            snprintf(gpu->name, sizeof gpu->name, "%s", strtok_r(NULL, " \n", &save));
            for (char *c = gpu->name; *c; c++) if (*c == '_') *c = ' ';
        } else {
            int index = atoi(word), step = atoi(strtok_r(NULL, " \n", &save));
            while ((word = strtok_r(NULL, " \n", &save))) add_line(index, step, word);
        }
    }
    fclose(file);
}

static struct reading reading_of(struct gpu *gpu, int sensor) {
    struct reading found = {sensor != ALL && sensor != OPEN && sensor != MIG, 3}; /* not supported */
    for (int i = 0; i < line_count; i++)
        if (&gpus[lines[i].gpu] == gpu && lines[i].sensor == sensor && lines[i].step <= gpu->step)
            found = lines[i].reading;
    return found;
}

/* What every call for a GPU goes through; only those that count are part of a sample. */
static int sense(struct gpu *gpu, int sensor, int counts, long long *value) {
    if (!opened) return UNINITIALIZED;
    if (counts && gpu->called & (1u << sensor)) {
        gpu->step++;
        gpu->called = 0;
    }
    if (counts) gpu->called |= 1u << sensor;
    struct reading all = reading_of(gpu, ALL);
    if (all.is_error && all.value == RESTART) {
        if (gpu->restarted_at < 0) gpu->restarted_at = init_calls;
        if (gpu->restarted_at == init_calls) return UNINITIALIZED;
    } else if (all.is_error) {
        return (int)all.value;
    }
    struct reading one = reading_of(gpu, sensor);
    *value = one.value;
    return one.is_error ? (int)one.value : 0;
}

#define SENSOR(name, type, sensor)                                  \
    int name(struct gpu *gpu, type *out) {                          \
        long long value = 0;                                        \
        int failed = sense(gpu, sensor, 1, &value);                 \
        if (!failed) *out = (type)value;                            \
        return failed;                                              \
    }

SENSOR(nvmlDeviceGetPowerUsage, unsigned, POWER)
#ifndef WITHOUT_ENERGY
SENSOR(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, ENERGY)
#endif
#ifdef WITHOUT_EVENT_REASONS
SENSOR(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, REASONS)
#else
SENSOR(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, REASONS)
#endif

int nvmlDeviceGetUtilizationRates(struct gpu *gpu, unsigned out[2]) {
    long long value = 0;
    int failed = sense(gpu, UTIL, 1, &value);
    if (!failed) out[0] = (unsigned)value, out[1] = 0;
    return failed;
}

int nvmlDeviceGetMemoryInfo(struct gpu *gpu, unsigned long long out[3]) {
    long long value = 0;
    int failed = sense(gpu, MEMORY, 1, &value);
    if (!failed) out[0] = 80ull << 30, out[2] = (unsigned long long)value, out[1] = out[0] - out[2];
    return failed;
}

int nvmlDeviceGetTemperature(struct gpu *gpu, int sensor, unsigned *out) {
    long long value = 0;
    int failed = sensor ? 2 : sense(gpu, TEMP, 1, &value);
    if (!failed) *out = (unsigned)value;
    return failed;
}

int nvmlDeviceGetClockInfo(struct gpu *gpu, int clock, unsigned *out) {
    long long value = 0;
    int failed = sense(gpu, clock == 1 ? SM : MEMCLOCK, 1, &value);
    if (!failed) *out = (unsigned)value;
    return failed;
}

int nvmlDeviceGetPcieThroughput(struct gpu *gpu, int counter, unsigned *out) {
    long long value = 0;
    int failed = sense(gpu, counter == 0 ? TX : RX, 0, &value);
    if (!failed) *out = (unsigned)value;
    return failed;
}

int nvmlDeviceGetMigMode(struct gpu *gpu, unsigned *current, unsigned *pending) {
    long long value = 0;
    int failed = sense(gpu, MIG, 0, &value);
    *current = *pending = (unsigned)value;
    return failed;
}

static int open_gpu(struct gpu *gpu, struct gpu **out) {
    long long value = 0;
    *out = gpu;
    return sense(gpu, OPEN, 0, &value);
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct gpu **out) {
    if (!opened) return UNINITIALIZED;
    return index < (unsigned)gpu_count ? open_gpu(&gpus[index], out) : 2;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, struct gpu **out) {
    for (int i = 0; i < gpu_count; i++)
        if (!strcmp(gpus[i].uuid, uuid)) {
            /* a driver lists a GPU that it can't reach: only the reading fails */
            *out = &gpus[i];
            return opened ? 0 : UNINITIALIZED;
        }
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(struct gpu *gpu, char *out, unsigned size) {
    snprintf(out, size, "%s", gpu->uuid);
    return 0;
}

int nvmlDeviceGetName(struct gpu *gpu, char *out, unsigned size) {
    snprintf(out, size, "%s", gpu->name);
    return 0;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    load_script();
    int call = init_calls++;
    if (call < wrong_count && inits_wrong[call]) return inits_wrong[call];
    opened++;
    return 0;
}

int nvmlShutdown(void) {
    if (!opened) return UNINITIALIZED;
    opened--;
    return 0;
}

int nvmlDeviceGetCount_v2(unsigned *out) {
    *out = (unsigned)gpu_count;
    return opened ? 0 : UNINITIALIZED;
}

const char *nvmlErrorString(int result) { return result == 28 ? "GPU not found" : "an error"; }
