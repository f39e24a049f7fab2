/** Loaded before a program of the range: it ends when the process that started it is gone, also where that was before this was loaded. */
if (!process.connected) process.exit()
process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'))
process.channel?.unref()
