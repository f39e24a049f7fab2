/**
 * Images, by sharp: each is decoded and written anew in its own format, so that nothing of what came is kept but the pixels.
 *
 * Threat: decompression bombs (CWE-409), files that are an image and something else (CWE-434), places and persons in metadata (CWE-201).
 * Defence: width, height and frames are read from the header before anything is decoded; decoding has a limit of pixels and of time.
 * Not covered: faults of the decoders themselves. Keep sharp up to date; where that is not enough, run the service without privileges.
 */
import type { Sharp, SharpOptions } from 'sharp'
import { UploadDamaged } from './errors.js'
import type { KindName } from './kinds.js'
import type { SettledRule } from './rule.js'

export interface Dimensions { width: number, height: number }

export interface Images {
  /**
   * Writes the image in `from` to `to`, upright, in the same format.
   *
   * @throws UploadDamaged also where there is too much of it
   */
  rewrite: (from: string, to: string, kind: KindName, rule: SettledRule) => Promise<Dimensions>
}

type Make = (path: string, options: SharpOptions) => Sharp

/** Seconds for one image. */
const SECONDS = 20
/** Near what cameras write: visibly the same, and seldom larger. */
const QUALITY = 85

const ENCODE: Partial<Record<KindName, (image: Sharp) => Sharp>> = {
  jpeg: image => image.jpeg({ quality: QUALITY }),
  png: image => image.png(),
  gif: image => image.gif(),
  webp: image => image.webp({ quality: QUALITY }),
}

/** @throws Error where the optional package sharp is not installed */
export async function loadImages (): Promise<Images> {
  const { default: sharp } = await import('sharp')
  // It would keep files open, and pixels in memory, that no second request ever asks for.
  sharp.cache(false)

  return {
    async rewrite (from, to, kind, rule) {
      try {
        return await rewriteBy(sharp as unknown as Make, from, to, kind, rule)
      } catch (error) {
        if (error instanceof UploadDamaged || (error as { syscall?: string }).syscall !== undefined) throw error
        throw Object.assign(new UploadDamaged(), { cause: error })
      }
    },
  }
}

async function rewriteBy (sharp: Make, from: string, to: string, kind: KindName, { maxWidth, maxHeight, maxPixels, maxFrames }: SettledRule): Promise<Dimensions> {
  const options: SharpOptions = { animated: true, limitInputPixels: maxPixels, failOn: 'error', sequentialRead: true }
  const { format, width, height: total, pageHeight, pages = 1, orientation = 1 } = await sharp(from, options).metadata()
  const height = pageHeight ?? total
  const isTurned = orientation >= 5
  if (format !== kind || pages > maxFrames || width * height * pages > maxPixels) throw new UploadDamaged()
  if ((isTurned ? height : width) > maxWidth || (isTurned ? width : height) > maxHeight) throw new UploadDamaged()
  // Frames that are one below the other cannot be turned; what moves has no orientation of its own.
  const upright = pages > 1 ? sharp(from, options) : sharp(from, options).autoOrient()
  const written = await ENCODE[kind]!(upright).timeout({ seconds: SECONDS }).toFile(to)
  return { width: written.width, height: written.pageHeight ?? written.height }
}
