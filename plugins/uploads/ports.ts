/** What a service brings or leaves out: checked at boot. */
import { UploadsMisconfigured } from './errors.js'
import { loadImages, type Images } from './images.js'
import { localStorage, type UploadStorage } from './storage.js'

export function openFolder (folder: string): UploadStorage {
  try {
    return localStorage(folder)
  } catch (cause) {
    throw Object.assign(new UploadsMisconfigured('uploads: folder: cannot be made or read'), { cause })
  }
}

export async function neededImages (): Promise<Images> {
  return loadImages().catch(cause => {
    throw Object.assign(new UploadsMisconfigured('upload: images are decoded by the package sharp: npm i sharp'), { cause })
  })
}

export function wantMethods (option: string, port: object, names: readonly string[]): void {
  if (names.every(name => typeof (port as Record<string, unknown> | null)?.[name] === 'function')) return
  throw new UploadsMisconfigured(`uploads: ${option}: must be an object with ${names.join(', ')}`)
}
